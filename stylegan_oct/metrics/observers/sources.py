"""A name for what a piece of code computes."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def source_hash(files: Iterable[Path]) -> str:
    """Return a hash of source files, 12 hexadecimal digits: results that are kept under it go when the code changes."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
