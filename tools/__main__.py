"""`python -m tools NAME`, and `stylegan-oct NAME` once installed."""

import errno
import importlib
import sys
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from dnnlib.errors import UserError
from dnnlib.escape import printable
from dnnlib.text import suggest
from stylegan_oct import __version__
from torch_utils.memory import is_out_of_memory, keep_freed_memory
from torch_utils.threads import wait_briefly

wait_briefly()

COMMANDS = {
    "phantom": "Simulate a data set of retinal OCT scans.",
    "convert": "Turn a folder, zip or CSV of scans into an archive for training.",
    "train": "Train a generator, or go on with an unfinished run.",
    "generate": "Draw synthetic scans from a checkpoint.",
    "walk": "Film a walk through the latent space: seeds, class to class, scan to scan.",
    "project": "Find the latents whose picture comes nearest to a scan.",
    "neighbours": "Find the synthetic scans nearest to a scan.",
    "directions": "Find directions in the latent space, and measure what they do.",
    "traverse": "Move samples or projected scans along a direction.",
    "atlas": "Lay synthetic pictures out on maps of w and of what a detector sees.",
    "biomarkers": "Measure thickness, drusen, fluid and foci in scans or samples.",
    "library": "Draw many synthetic scans once, with their latents, to search in.",
    "train-encoder": "Learn to guess latents from pictures, so that projections begin nearer.",
    "train-detector": "Learn to tell the classes of an archive apart: the class oracle.",
    "export": "Export samples with manifest, marks, hashes and a card, for training and for others.",
    "train-copies": "Learn to tell copies of training scans from other eyes: the copy detector.",
    "evaluate": "Measure a generator: fidelity, usefulness, memorisation, consistency.",
    "import-weights": "Read official weights (.pkl), without running what is in their file.",
    "pack": "Write a generator as one small file to hand on.",
    "info": "Show what a checkpoint or an archive holds.",
}


# What the file system refuses to a right command. Anything else of it, such as a missing file, is a wrong command.
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
LONGEST = 600  # characters of a message
ADVICE = "Make room, give access, or choose another place; what is complete stays."


def exit_code(cause: BaseException | None) -> int:
    """Return 1 where the file system refused what a command may do, else 2."""
    return 1 if isinstance(cause, OSError) and cause.errno in REFUSALS else 2


def say(message: str) -> None:
    """Print an error, its middle left out where it repeats a value without an end."""
    message = printable(message)
    short = message if len(message) <= LONGEST else f"{message[:LONGEST // 2]} ... {message[-LONGEST // 2:]}"
    click.echo(f"error: {short}", err=True)


class LazyGroup(click.Group):
    """Imports a command's module only when it is called, so that --help is quick, and prints user errors in a line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"tools.{name}"), name)
        assert isinstance(command, click.Command), command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when the given one does not exist."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            ctx.fail(f"No such command {args[0]!r}.{suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Turn what is wrong into one line and exit code 2, what failed on the way into 1, Ctrl-C into 130."""
        try:
            return super().invoke(ctx)
        except NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            help_too = "" if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter) \
                else f" See: {error.ctx.command_path if error.ctx else ctx.command_path} --help"
            say(f"{' '.join(error.format_message().split())}{help_too}")
            ctx.exit(2)
        except UserError as error:
            say(str(error))
            ctx.exit(exit_code(error.__cause__))
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever reads has enough, as `head`
                raise
            place = f"{error.filename}: " if error.filename else ""
            say(f"{place}{error.strerror or error}. {ADVICE}")
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo("stopped.", err=True)
            ctx.exit(130)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            click.echo(f"error: {self._advice(ctx)}", err=True)
            ctx.exit(1)

    def _advice(self, ctx: click.Context) -> str:
        """Return what to do where memory could not be had."""
        command = self.get_command(ctx, ctx.invoked_subcommand or "")
        options = {option for parameter in (command.params if command else ()) for option in parameter.opts}
        smaller = next((option for option in ("--batch-gpu", "--batch") if option in options), None)
        first = f"Give a smaller {smaller}, 1 at least; or close" if smaller else "Close"
        return f"Out of memory. {first} other programs, and run the same command again."


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stylegan-oct")
def main() -> None:
    """Learn, draw and explore synthetic retinal OCT scans (CNV, DME, DRUSEN, NORMAL)."""
    keep_freed_memory()


if __name__ == "__main__":
    sys.exit(main())
