"""`info`: what a checkpoint or an archive holds."""

import json
from pathlib import Path

import click

from tools._options import NAME_OR_PATH, checkpoint_option, json_option

EPILOG = """\b
Examples:
  python -m tools info                          # the demo generator
  python -m tools info runs/00003-oct256-256px-b32
  python -m tools info data/phantom-64.zip
"""


@click.command(epilog=EPILOG)
@click.argument("path", required=False, type=NAME_OR_PATH)
@checkpoint_option
@json_option
def info(path: str | None, checkpoint: str | None, as_json: bool) -> None:
    """Show what PATH holds: a checkpoint, a run, a folder of runs, or an archive."""
    from stylegan_oct.describe import describe

    target = path or checkpoint
    facts = describe(Path(target) if target else None)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        click.echo(f"{key:<{width}}  {value}")
