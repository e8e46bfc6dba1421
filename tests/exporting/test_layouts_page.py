"""The snippets of docs/layouts.md, run."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_samples import COLLECTION, made_export

from stylegan_oct.export.description.card import Facts, write_card
from stylegan_oct.export.description.croissant import write_croissant
from stylegan_oct.export.description.manifest import manifest_of
from stylegan_oct.export.layouts import LAYOUTS

PAGE = Path(__file__).parents[2] / "docs" / "layouts.md"
SNIPPETS = {section.partition("\n")[0]: section.split("```python\n")[1].split("```")[0]
            for section in PAGE.read_text().split("\n## ")[1:] if "```python" in section}
NEEDS = {"imagefolder": "datasets", "webdataset": "webdataset", "medmnist": "medmnist", "Croissant": "mlcroissant"}


def test_the_page_shows_how_to_load_every_layout():
    assert set(SNIPPETS) == {*LAYOUTS, "Croissant"}


@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_of_the_page_runs(name, tmp_path, monkeypatch, capsys):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason="needs pip install 'stylegan-oct[loaders]', or medmnist with --no-deps")
    out = tmp_path / "out" / "export"
    layout, rows = made_export(name if name in LAYOUTS else "imagefolder", out, side=64)
    manifest_of(rows).write(out, rows())
    facts = Facts(layout=layout.name, collection=replace(COLLECTION, resolution=64), checkpoint_sha256="0" * 64,
                  nimg=1000, data_source="phantom", psi=0.8)
    write_card(out, facts, rows)
    write_croissant(out, facts, rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if name == "imagefolder":
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    exec(compile(SNIPPETS[name], f"{PAGE.name}: {name}", "exec"), {"__name__": "snippet"})
    assert re.search(r"CNV|DME|WAMD|DR|\(64, 64\)", capsys.readouterr().out)
