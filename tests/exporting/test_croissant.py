import json

import pytest
from made_samples import COLLECTION, made_export

from stylegan_oct.export.description.card import Facts
from stylegan_oct.export.description.croissant import FILE, write_croissant
from stylegan_oct.export.description.manifest import manifest_of
from stylegan_oct.export.layouts import LAYOUTS


def _written(name, out):
    _, rows = made_export(name, out)
    manifest_of(rows).write(out, rows())
    write_croissant(out, Facts(layout=name, collection=COLLECTION, checkpoint_sha256="0" * 64, nimg=1000,
                               data_source="phantom", psi=0.8, licence="cc-by-4.0"), rows)
    return rows, json.loads((out / FILE).read_text())


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_column_is_a_field_and_every_file_of_many_pictures_is_listed(name, tmp_path):
    rows, data = _written(name, tmp_path)
    fields = data["recordSet"][0]["field"]
    assert [field["source"]["extract"]["column"] for field in fields] == list(manifest_of(rows).names)
    files = {file["@id"] for file in data["distribution"]}
    assert "manifest.csv" in files and not any(".parts" in file for file in files)
    assert {path.relative_to(tmp_path).as_posix() for suffix in ("tar", "zip", "npz")
            for path in tmp_path.rglob(f"*.{suffix}") if ".parts" not in path.parts} <= files


@pytest.mark.filterwarnings("ignore")  # of the library
def test_mlcroissant_accepts_it_and_reads_the_rows(tmp_path):
    mlcroissant = pytest.importorskip("mlcroissant", reason="needs pip install 'stylegan-oct[loaders]'")
    rows, _ = _written("imagefolder", tmp_path)
    found = mlcroissant.Dataset(jsonld=str(tmp_path / FILE))
    assert not found.metadata.issues.errors
    records = list(found.records("pictures"))
    assert [record["pictures/seed"] for record in records] == [item.seed for item in rows()]
    assert [record["pictures/label"].decode() for record in records] == [item.class_name for item in rows()]
