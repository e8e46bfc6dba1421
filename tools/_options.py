"""Options that several commands share."""

import click


class Grid(click.ParamType[tuple[int, int]]):
    """Columns x rows, such as 4x2."""

    name = "grid"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return columns and rows."""
        columns, _, rows = value.lower().partition("x")
        if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
            self.fail(f"{value!r} is not COLUMNSxROWS, such as 4x2.", param, ctx)
        return int(columns), int(rows)


GRID = Grid()

device_option = click.option("--device", metavar="NAME", help="cpu or cuda. [default: cuda where there is a GPU]")
checkpoint_option = click.option("-c", "--checkpoint", metavar="PATH",
                                 help="Generator file, checkpoint, run or folder of runs. [default: the demo]")
