"""The fixture `reference` and the marker `reference_cases`; what they hand out is in official.py."""

import pytest

from reference import official


@pytest.fixture(scope="session")
def reference() -> official.Reference:
    if not (official.FOLDER / "ops.json").exists():
        pytest.skip(f"no reference numbers: {official.FOLDER} is absent (set STYLEGAN_OCT_REFERENCE)")
    return official.Reference()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`@pytest.mark.reference_cases("augment")` runs a test with the argument `case` for every entry of augment.json.

    Further keyword arguments of the marker keep the entries that have these values.
    """
    marker = metafunc.definition.get_closest_marker("reference_cases")
    if marker is None:
        return
    wanted = [entry for entry in official.cases(marker.args[0])
              if all(entry.get(key) in (value if isinstance(value, tuple) else (value,))
                     for key, value in marker.kwargs.items())]
    # With no folder one case remains, which the fixture skips with the reason.
    names = [entry.get("case") or entry.get("net") for entry in wanted]
    metafunc.parametrize("case", wanted or [{}], ids=names or ["none"])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "reference_cases(file, **values): one test for each entry of a reference JSON")
