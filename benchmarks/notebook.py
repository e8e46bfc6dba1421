"""Runs the cells of a notebook in order and stores what they show, with nothing but the standard library.

    python -m benchmarks.notebook docs/tour.ipynb            # run it, and write it with its output
    python -m benchmarks.notebook docs/tour.ipynb script.py  # make it anew from a script

The cells share one namespace and run in an empty folder. In a script they begin with "# %%", those of
text with "# %% [markdown]".
"""

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

METHODS = {"image/png": "_repr_png_", "text/html": "_repr_html_"}
Cell = dict[str, Any]


def cells_of(script: str) -> list[Cell]:
    """Return the cells of a script."""
    cells = []
    for number, part in enumerate(script.split("# %%")[1:], 1):
        head, _, body = part.partition("\n")
        words = "[markdown]" in head
        lines = [line[2:] if words else line for line in body.strip().splitlines()]
        source = [line + "\n" for line in lines[:-1]] + lines[-1:]
        cell = {"cell_type": "markdown" if words else "code", "id": f"cell-{number:02d}", "metadata": {},
                "source": source}
        cells.append(cell if words else {**cell, "execution_count": None, "outputs": []})
    return cells


def notebook(cells: list[Cell]) -> dict[str, Any]:
    """Return a notebook, nbformat 4.5."""
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
              "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def run(found: Mapping[str, Any], told: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """Return the notebook with the output of its cells, which are run in a temporary folder."""
    names: dict[str, Any] = {"__name__": "__main__"}
    here, cells, count = Path.cwd(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for cell in found["cells"]:
                if cell["cell_type"] == "code":
                    count += 1
                    told(f"[{count}] {''.join(cell['source']).splitlines()[0]}")
                    outputs = _run_cell("".join(cell["source"]), names, count)
                    cell = {**cell, "execution_count": count, "outputs": outputs}
                cells.append(cell)
        finally:
            os.chdir(here)
    return {**found, "cells": cells}


def _run_cell(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run the code; what it printed, and the value of a last line that is an expression, are its outputs."""
    tree, value = ast.parse(source), None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"<cell {count}>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue().splitlines(True)})
    if value is not None:
        outputs.append({"output_type": "execute_result", "execution_count": count, "metadata": {},
                        "data": _shown(value)})
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    """Return a value as text, and as the first of the pictures and pages that it can be."""
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(True)}
    for kind, name in METHODS.items():  # both, as Jupyter stores them, would hold each picture twice
        made = getattr(value, name, lambda: None)()
        if made is not None:
            shown = base64.b64encode(made).decode() if isinstance(made, bytes) else made.splitlines(True)
            return {**data, kind: shown}
    return data


def main(path: str, script: str | None = None) -> None:
    """Write a notebook with its output."""
    file = Path(path)
    found = notebook(cells_of(Path(script).read_text())) if script else json.loads(file.read_text())
    done = run(found, print)
    file.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
