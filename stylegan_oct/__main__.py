"""`stylegan-oct NAME` and `python -m stylegan_oct NAME`: the commands, or a line that says whose `tools` was found."""

import importlib
import sys

from stylegan_oct._siblings import complaint


def main() -> None:
    """Run a command."""
    line = complaint("tools")
    if line is not None:
        sys.exit(f"error: {line}")
    importlib.import_module("tools.__main__").main(prog_name="stylegan-oct")


if __name__ == "__main__":
    main()
