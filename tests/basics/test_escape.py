"""Words of users are fit for the place where they go."""

import json
import re

import pytest

from dnnlib.escape import csv_cells, file_name, file_names, markdown, printable, word, yaml_text

NO_FILE = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]')


def test_the_escapes_of_the_place() -> None:
    assert printable("a\x1b[31m\nb\u202e\ud800") == "a\\x1b[31m\\nb\\u202e\\ud800"
    assert markdown("<b>&*x*|[a](b)`c` drusen_area _i_") == (
        r"&lt;b&gt;&amp;\*x\*\|\[a\](b)\`c\` drusen_area \_i\_")
    assert csv_cells(["=1", "@a", "\t", "\uff1d1"]) == ["'=1", "'@a", "'\t", "'\uff1d1"]
    assert csv_cells(["a=1", -1, None]) == ["a=1", -1, None]
    assert word("wet AMD-v1.0") == "wet_AMD_v1_0" and word("=|") == ""
    assert json.loads(yaml_text('a"b').replace("U000000", "u00")) == 'a"b'


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0 <script>", "../../a", "a/b", ".hidden", "__x", "-rf", "CON",
                                  "nul.txt", "a. ", "x" * 300, "\ud800", "a\\b", "{a}", "$HOME", "~", "%41"])
def test_a_name_that_is_no_file_becomes_one_and_stays_another_than_its_like(name: str) -> None:
    found = file_name(name)
    assert found and found not in (".", "..") and not NO_FILE.search(found) and "/" not in found
    assert found[0] not in ".-_ " and found[-1] not in ". " and len(found.encode()) < 80
    assert found != file_name(name + "?") and file_name(found) == found


def test_names_that_differ_by_case_alone_are_told_apart() -> None:
    assert len({name.casefold() for name in file_names(["cnv", "CNV", "Cnv"]).values()}) == 3
    assert file_names(["CNV", "wet AMD", "正常"]) == {name: name for name in ("CNV", "wet AMD", "正常")}
