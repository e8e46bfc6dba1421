"""The text that is compiled for a variant of a kernel: its definitions, then its source with what it includes."""

import functools
import hashlib
from pathlib import Path

from torch_utils.ops.launches import Variant

FOLDER = Path(__file__).parent / "csrc"


def source_of(variant: Variant) -> str:
    """Return a text that needs no option and no other file to compile."""
    definitions = "".join(f"#define {name} {value}".rstrip() + "\n" for name, value in variant.definitions)
    return definitions + _read(f"{variant.name}.cu")


def digest_of(variant: Variant, architecture: str) -> str:
    """Return what tells this variant for this architecture from every other and from its earlier versions."""
    return hashlib.sha256(f"{architecture}\n{source_of(variant)}".encode()).hexdigest()[:32]


@functools.cache
def _read(name: str) -> str:
    """Return a source with its included files in place."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return "".join(_read(line.split('"')[1]) if line.startswith("#include") else line + "\n" for line in lines
                   if line != "#pragma once")
