"""The latents of one picture as a file: what a projection finds, and what walks, traversals and searches start from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor

from dnnlib.config import Finite, Hash, Name, from_texts
from dnnlib.errors import ConfigError, DataError
from dnnlib.files import atomic_write
from dnnlib.stored import brief, reading
from stylegan_oct.data.privacy import write_private
from stylegan_oct.model import OctGenerator
from torch_utils.tensor_file import load_header, load_tensors, take

Space = Literal["w", "w+", "pti"]

KIND = "stylegan_oct codes"
_DELTA = "delta."       # prefix of the changes of weights among the tensors


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Latents that a generator turns into a picture."""

    w: Tensor                       # [layers, w_dim], float32; all rows alike in the space w
    class_name: str                 # that they were found under; "" for a generator without classes
    checkpoint_sha256: str          # of the generator's file; with another generator they mean nothing
    space: Space = "w"
    psi: float = 1.0                # truncation that they were drawn with
    distance: float | None = None   # to the picture that they stand for
    derived_from_patient: bool = False
    delta: Mapping[str, Tensor] = field(default_factory=dict)   # factors of the changes of weights (pivotal tuning)

    def __post_init__(self) -> None:
        assert self.w.ndim == 2, self.w.shape


@dataclass(frozen=True, kw_only=True)
class _Header:
    kind: Literal["stylegan_oct codes"]
    format: Literal["1"]
    class_name: Name
    checkpoint_sha256: Hash
    space: Space
    psi: Finite
    distance: Finite | None
    derived_from_patient: bool


def save_codes(path: Path, codes: Codes) -> None:
    """Write the codes; those of a patient's scan for the owner alone.

    Raises:
        DataError: the file cannot be written.
    """
    header = {"kind": KIND, "format": "1", "class": codes.class_name, "checkpoint_sha256": codes.checkpoint_sha256,
              "space": codes.space, "psi": json.dumps(codes.psi), "distance": json.dumps(codes.distance),
              "derived_from_patient": json.dumps(codes.derived_from_patient)}
    tensors = {"w": codes.w, **{_DELTA + name: value for name, value in codes.delta.items()}}
    data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata=header)
    try:
        if codes.derived_from_patient:
            write_private(path, data)
            return
        with atomic_write(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error.strerror}. Choose another place with --out.") from error


def load_codes(path: Path) -> Codes:
    """Return codes from a file.

    Raises:
        DataError: it is missing or holds something else.
    """
    with reading(path, DataError, "It holds no codes; give a file written by: python -m tools project SCAN"):
        texts, tensors = load_header(path).texts, load_tensors(path)
        header = from_texts(_Header, {**texts, "class_name": texts.get("class", "")})
        delta = {name.removeprefix(_DELTA): take(tensors, name, *tensor.shape) for name, tensor in tensors.items()
                 if name.startswith(_DELTA)}
        return Codes(w=take(tensors, "w", None, None).to(torch.float32), class_name=header.class_name,
                     checkpoint_sha256=header.checkpoint_sha256, space=header.space, psi=header.psi,
                     distance=header.distance, derived_from_patient=header.derived_from_patient, delta=delta)


def check_codes(codes: Codes, G: OctGenerator, path: Path) -> None:
    """Refuse codes of another generator.

    Raises:
        DataError: they belong to another one.
    """
    layers, width = G.network.num_ws, G.network.w_dim
    if codes.checkpoint_sha256 != G.info.sha256 or codes.w.shape != (layers, width):
        raise DataError(f"{path} belongs to another generator (checkpoint {codes.checkpoint_sha256[:12]}, not "
                        f"{G.info.sha256[:12]}). Give that one with --checkpoint, or project the scan again.")


def check_changes(codes: Codes, G: OctGenerator) -> None:
    """Refuse changes of weights and noise that the generator cannot take.

    Raises:
        DataError: they do not fit it.
    """
    own = {name: tensor.shape for name, tensor in G.network.synthesis.state_dict().items()}
    convolutions = {name: shape for name, shape in own.items() if name.endswith("weight") and len(shape) == 4}
    with reading("What codes change", DataError, "Project the scan again."):
        for name in codes.delta:
            noise = own.get(name.removeprefix("noise."))
            if name.startswith("noise.") and noise is not None and name.endswith("noise_const"):
                take(codes.delta, name, 1, *noise)
            elif name[:-2] not in convolutions or name[-2:] not in (".a", ".b"):
                raise ConfigError(f"the generator has no weight {brief(name)} to change.")
        changed = any(not name.startswith("noise.") for name in codes.delta)
        for name, shape in convolutions.items() if changed else ():
            rank = take(codes.delta, f"{name}.a", shape[0], None).shape[1]
            take(codes.delta, f"{name}.b", rank, shape[1:].numel())
