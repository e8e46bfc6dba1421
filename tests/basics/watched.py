"""One of several processes that watch over each other: watched.py FOLDER RANK SIZE PLAN, without torch for speed."""

import os
import sys
import time
from pathlib import Path

from torch_utils.watch import start_watch


class Folder:
    """A board of files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, key: str, value: str) -> None:
        (self._path / f".{key}").write_text(value)
        os.replace(self._path / f".{key}", self._path / key)

    def get(self, key: str) -> bytes:
        while not (self._path / key).exists():
            time.sleep(0.02)
        return (self._path / key).read_bytes()


if __name__ == "__main__":
    folder, rank, size, plan = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    watch = start_watch(rank, size, Folder(folder), "localhost", silent_sec=3)
    (folder / f"ready-{rank}").touch()
    if plan == "fail" and rank == 1:
        watch.close("the picture 7.png cannot be read")
        sys.exit(3)
    # Longer than a silence, and each ends at another moment.
    time.sleep(4 + 0.7 * rank if plan == "end" else 60)
    watch.close()
