"""One small file of a generator, to hand on."""

from pathlib import Path

import torch

from dnnlib.errors import CheckpointError
from dnnlib.files import atomic_path
from stylegan_oct.model import DISCRIMINATOR_FILE, find_generator, read_info
from torch_utils.checkpoint import encode_tensors, read_header, read_tensors


def export_generator(source: Path, dest: Path, *, half: bool = True, discriminator: bool = False) -> None:
    """Write the generator of a checkpoint or run as one small file to hand on.

    Args:
        source: as for `load_generator`.
        dest: the .safetensors file.
        half: store float16, half the size; pictures change by less than a grey level.
        discriminator: write the checkpoint's D beside it as DISCRIMINATOR_FILE, for trainings that start from here.
    Raises:
        CheckpointError: there is none, its weights do not fit into float16, `dest` is itself, or a file cannot be
            written.
    """
    file = find_generator(source)
    read_info(file)
    if dest.exists() and dest.samefile(file):
        raise CheckpointError(f"{dest} is the generator itself, which is left as it is. Give another name.")
    if discriminator and not (file.parent / DISCRIMINATOR_FILE).is_file():
        raise CheckpointError(f"There is no discriminator beside {file}: only the newest checkpoints of a run keep "
                              "theirs. Take one of those, or leave the discriminator out.")
    _write_packed(file, dest, half)
    if discriminator:
        file = file.parent / DISCRIMINATOR_FILE
        _write_packed(file, dest.parent / DISCRIMINATOR_FILE, half)


def _write_packed(file: Path, dest: Path, half: bool) -> None:
    kind = torch.float16 if half else torch.float32
    tensors = {name: tensor.to(kind) for name, tensor in read_tensors(file).items()}
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise CheckpointError(f"Weights of {file} do not fit into float16. Export it with --full.")
    try:
        with atomic_path(dest) as temporary:
            temporary.write_bytes(encode_tensors(tensors, read_header(file)))
    except OSError as error:
        raise CheckpointError(f"Cannot write {dest}: {error.strerror}. Choose another place.") from error
