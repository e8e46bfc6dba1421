"""The tour: a notebook whose cells run in order, and which holds what they showed and nothing of a machine."""

import json
import re
import time
from pathlib import Path

import pytest

from benchmarks import notebook

TOUR = Path(__file__).parents[2] / "docs" / "tour.ipynb"
SECONDS = 180.0


def code(found):
    return [cell for cell in found["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_valid_and_was_run_in_order():
    text = TOUR.read_text()
    found = json.loads(text)
    assert (found["nbformat"], found["nbformat_minor"]) == (4, 5) and len(text) < 600_000
    names = [cell["id"] for cell in found["cells"]]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names)
    assert [cell["execution_count"] for cell in code(found)] == list(range(1, len(code(found)) + 1))
    for cell in found["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == (wanted | {"execution_count", "outputs"} if cell["cell_type"] == "code" else wanted)
        assert cell["cell_type"] in ("code", "markdown") and all(isinstance(line, str) for line in cell["source"])
        for output in cell.get("outputs", ()):
            assert output["output_type"] in ("stream", "execute_result")   # no errors, no warnings
            assert output["output_type"] == "stream" or "text/plain" in output["data"]
    kinds = {kind for cell in code(found) for output in cell["outputs"] for kind in output.get("data", ())}
    assert {"image/png", "text/html"} <= kinds


def test_nothing_of_a_machine_is_in_it():
    for cell in json.loads(TOUR.read_text())["cells"]:
        shown = [output for output in cell.get("outputs", ()) if output["output_type"] != "stream"]
        words = json.dumps([cell["source"], [output.get("text") for output in cell.get("outputs", ())],
                            [output["data"]["text/plain"] for output in shown]])
        assert not re.search(r"(?<![\w.])(/(home|tmp|work|root|Users|usr|var|opt)/|[A-Z]:\\\\)", words), words


def test_a_script_becomes_cells_and_the_last_line_is_shown(tmp_path):
    made = notebook.notebook(notebook.cells_of("# %% [markdown]\n# # Title\n#\n# text\n# %%\nx = 2\nprint(x)\nx + 1\n"))
    assert made["cells"][0]["source"] == ["# Title\n", "\n", "text"]
    (tmp_path / "n.ipynb").write_text(json.dumps(made))
    notebook.main(str(tmp_path / "n.ipynb"))
    printed, shown = json.loads((tmp_path / "n.ipynb").read_text())["cells"][1]["outputs"]
    assert printed["text"] == ["2\n"] and shown["data"] == {"text/plain": ["3"]}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_cells_run_in_order_within_three_minutes():
    stored = json.loads(TOUR.read_text())
    begin = time.monotonic()
    done = notebook.run(stored)
    assert time.monotonic() - begin < SECONDS
    for before, now in zip(code(stored), code(done), strict=True):
        assert [output.get("data", {}).keys() for output in before["outputs"]] == [
            output.get("data", {}).keys() for output in now["outputs"]]
