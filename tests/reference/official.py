"""Numbers of the official implementation, where they are at hand: `STYLEGAN_OCT_REFERENCE` or ../shared/reference."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from stylegan_oct.networks import legacy
from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator

TOLERANCE = 1e-4

FOLDER = Path(os.environ.get("STYLEGAN_OCT_REFERENCE")
              or Path(__file__).resolve().parents[3] / "shared" / "reference")


def cases(name: str) -> list[dict[str, Any]]:
    """Return the entries of NAME.json; empty where the folder is absent, so that collecting goes on."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def relative_error(value: Tensor, expected: Tensor) -> float:
    """Return the greatest absolute difference over the greatest absolute value of the expected tensor."""
    assert value.shape == expected.shape, (list(value.shape), list(expected.shape))
    if expected.numel() == 0:
        return 0.0
    difference = (value.detach().double() - expected.double()).abs().max().item()
    scale = expected.double().abs().max().item()
    return difference / scale if scale else difference


def assert_agrees(value: Tensor, expected: Tensor, what: str = "", tolerance: float = TOLERANCE) -> None:
    error = relative_error(value, expected)
    assert error <= tolerance, f"{what}: relative error {error:.2e} above {tolerance:.0e}"


class Group(Mapping[str, Tensor]):
    """The tensors of a file whose names start with a prefix, by the rest of their names."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class Reference:
    """The files of the folder. `ref.tensors("ops", "upfirdn2d_00/")["x"]`, `ref.tensors("augment")["images_1"]`."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, Tensor]] = {}

    def tensors(self, name: str, prefix: str = "") -> Group:
        if name not in self._files:
            self._files[name] = load_file(FOLDER / f"{name}.safetensors")
        return Group(self._files[name], prefix)

    def cases(self, name: str) -> list[dict[str, Any]]:
        return cases(name)


def build(reference: Reference, case: Mapping[str, Any]) -> nn.Module:
    """Return the network of an entry of networks.json, with its weights."""
    options = dict(case["init"])
    mapping, synthesis, epilogue = (options.pop(f"{part}_kwargs", {}) for part in ("mapping", "synthesis", "epilogue"))
    options |= synthesis | epilogue | {"mapping_layers": mapping["num_layers"]}
    network = {"Generator": Generator, "Discriminator": Discriminator}[case["kind"]](**options)
    legacy.load_official(network, reference.tensors("networks", f"{case['net']}/"))
    return network.eval()
