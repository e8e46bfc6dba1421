import csv
import json

import pytest
from made_samples import CLASSES, made_item

from dnnlib.errors import DataError
from stylegan_oct.export.description import manifest as module
from stylegan_oct.export.description.manifest import CSV, PARQUET, SCHEMA, Item, Manifest, manifest_of


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_an_item_survives_its_line():
    item = made_item(3, teacher_labels={"AMD": 0.25}, memorised=False)
    assert Item.from_json(item.to_json()) == item


@pytest.mark.parametrize("line", ["", "{", "[]", '{"seed": 3}', '{"colour": "red"}'])
def test_a_damaged_line_is_told(line):
    with pytest.raises(DataError, match="damaged"):
        Item.from_json(line)


def test_csv_has_a_row_for_each_picture_and_no_cell_for_what_is_not_known(tmp_path):
    items = [made_item(seed) for seed in range(6)]
    Manifest(items[0]).write(tmp_path, items)
    rows = _rows(tmp_path / CSV)
    assert [int(row["seed"]) for row in rows] == list(range(6))
    assert rows[0]["central_thickness_um"] == "" and float(rows[1]["central_thickness_um"]) == 251
    assert rows[0]["memorised"] == "" and rows[0]["synthetic"] == "true"
    assert [row["label"] for row in rows[:4]] == list(CLASSES)


def test_oracle_biomarkers_and_teacher_have_a_column_for_each_name():
    names = Manifest(made_item(1, teacher_labels={"AMD": 0.25, "NOR": 0.75})).names
    assert {"oracle_CNV", "oracle_NORMAL", "central_thickness_um", "teacher_AMD", "teacher_NOR"} <= set(names)
    assert len(set(names)) == len(names)


def test_the_schema_explains_every_column(tmp_path):
    items = [made_item(1)]
    Manifest(items[0]).write(tmp_path, items)
    fields = json.loads((tmp_path / SCHEMA).read_text())["fields"]
    assert [field["name"] for field in fields] == list(_rows(tmp_path / CSV)[0])
    assert all(field["meaning"] and field["type"] in ("string", "int64", "float64", "bool") for field in fields)
    assert next(field["unit"] for field in fields if field["name"] == "central_thickness_um") == "um"


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    items = [made_item(seed) for seed in range(6)]
    for name in "ab":
        (tmp_path / name).mkdir()
        files = Manifest(items[0]).write(tmp_path / name, items)
    for file in files:
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()


def test_parquet_holds_what_csv_holds_with_types(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    items = [made_item(seed, memorised=seed == 2) for seed in range(6)]
    Manifest(items[0]).write(tmp_path, items)
    table = parquet.read_table(tmp_path / PARQUET)
    assert table.column_names == list(_rows(tmp_path / CSV)[0])
    assert table["seed"].to_pylist() == list(range(6)) and str(table.schema.field("seed").type) == "int64"
    assert table["central_thickness_um"].to_pylist()[:2] == [None, 251.0]
    assert table["memorised"].to_pylist() == [seed == 2 for seed in range(6)]
    assert table.schema.field("psi").metadata[b"meaning"].startswith(b"truncation")


def test_many_rows_are_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    items = [made_item(seed) for seed in range(10)]
    Manifest(items[0]).write(tmp_path, iter(items))
    assert [int(row["seed"]) for row in _rows(tmp_path / CSV)] == list(range(10))


def test_without_pyarrow_there_is_csv(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "has_parquet", lambda: False)
    items = [made_item(1)]
    files = Manifest(items[0]).write(tmp_path, items)
    assert {file.name for file in files} == {CSV, SCHEMA} == {path.name for path in tmp_path.iterdir()}


def test_a_disk_that_is_full_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Manifest, "_text", full)
    with pytest.raises(DataError, match="No space left"):
        Manifest(made_item(1)).write(tmp_path, [made_item(1)])
    assert {path.name for path in tmp_path.iterdir()} <= {SCHEMA}


def test_an_export_without_pictures_is_told():
    with pytest.raises(DataError, match="no picture"):
        manifest_of(lambda: iter(()))


def test_columns_keep_apart_what_classes_are_called(tmp_path):
    names = ("class", "cnv", "CNV", "a b", "a|b", "?")
    items = [made_item(1, oracle_class="=1+1", class_name="@SUM(A1)",
                       oracle_probabilities={name: number / 8 for number, name in enumerate(names)})]
    Manifest(items[0]).write(tmp_path, items)
    (row,) = _rows(tmp_path / CSV)
    assert row["oracle_class"] == "'=1+1" and row["label"] == "'@SUM(A1)"
    columns = [name for name in row if name.startswith("oracle_")][1:]
    assert columns == ["oracle_class_1", "oracle_cnv", "oracle_CNV_1", "oracle_a_b", "oracle_a_b_1", "oracle_"]
    assert [float(row[name]) for name in columns] == [number / 8 for number in range(6)]
    meanings = {field["name"]: field["meaning"] for field in json.loads((tmp_path / SCHEMA).read_text())["fields"]}
    assert meanings["oracle_a_b_1"] == "probability of a|b, by the oracle"
