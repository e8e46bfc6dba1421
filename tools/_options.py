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


class Layers(click.ParamType[tuple[int, int]]):
    """First and last layer, such as 0-3, or one layer, such as 5."""

    name = "layers"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return first and last layer."""
        first, _, last = value.partition("-")
        if not (first.isdecimal() and (last or first).isdecimal() and int(first) <= int(last or first)):
            self.fail(f"{value!r} is not a range of layers, such as 0-3.", param, ctx)
        return int(first), int(last or first)


GRID = Grid()
LAYERS = Layers()

device_option = click.option("--device", metavar="NAME", help="cpu or cuda. [default: cuda where there is a GPU]")
checkpoint_option = click.option("-c", "--checkpoint", metavar="PATH",
                                 help="Generator file, checkpoint, run or folder of runs. [default: the demo]")
