"""Keyed hashes: what links rows for the owner of the key says nothing to anybody else."""

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from dnnlib.errors import DataError
from dnnlib.files import atomic_path

KEY_BYTES = 32


class Key:
    """A secret key, kept in a file that only its owner can read.

    A plain hash would not do: patient numbers are short, and the files of public sets are known, so that both could be
    found by trying all.

    Args:
        path: of the file, made when it is not there.
    Raises:
        DataError: it cannot be made or read, or is no such key.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(KEY_BYTES) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            with contextlib.suppress(PermissionError):  # of another owner who lets us read it
                os.chmod(path, 0o600)
            with open(path, encoding="ascii") as file:
                self._secret = bytes.fromhex(file.read(4 * KEY_BYTES).strip())
        except OSError as error:
            raise DataError(f"The key {path} cannot be made or read: {error.strerror}.") from error
        except ValueError:
            self._secret = b""
        if len(self._secret) != KEY_BYTES:
            raise DataError(f"{path} is not a key: it should hold {2 * KEY_BYTES} hexadecimal digits. Give another "
                            "file, or remove it to have a new key made.")

    def hash(self, kind: str, value: str) -> str:
        """Return HMAC-SHA-256 of a value as 32 hexadecimal digits; equal values of other kinds differ."""
        message = f"{kind}\0{value}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, message, "sha256").hex()[:32]


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on; it replaces `path` when it is whole."""
    with atomic_path(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
