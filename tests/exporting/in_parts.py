"""An export of many small parts in a process of its own: `python in_parts.py OUT [KILL]`, or with RANK and WORLD_SIZE.

KILL: the number of the picture before which the process kills itself.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from dnnlib.files import sha256_of
from stylegan_oct.export import plan
from stylegan_oct.export.export import Summary, export
from stylegan_oct.export.layouts import files
from stylegan_oct.export.prepare import Settings
from torch_utils.distributed import World, init_world

PART = 4
SETTINGS = {"classes": "CNV=10,DME=7,NORMAL=9", "batch": 4, "biomarkers": False, "allow_unreviewed": True}


def export_in_parts(out: Path, world: World | None = None, say: Callable[[str], object] = lambda _: None,
                    **changes: object) -> Summary:
    """Export 26 pictures of the demo generator in three parts."""
    whole, plan.PART = plan.PART, PART
    try:
        return export(Settings(out=out, **{**SETTINGS, **changes}), world=world or World(), say=say)  # type: ignore[arg-type]
    finally:
        plan.PART = whole


def tree(out: Path) -> dict[str, str]:
    """Return the hash of each file."""
    return {path.relative_to(out).as_posix(): sha256_of(path) for path in out.rglob("*") if path.is_file()}


def kill_before(number: int) -> None:
    """Have this process killed before it writes a picture."""
    write, seen = files.write_picture, []

    def writing(path: Path, data: bytes) -> None:
        seen.append(path)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, data)

    files.write_picture = writing


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        kill_before(int(sys.argv[2]))
    export_in_parts(Path(sys.argv[1]), init_world("cpu"))
