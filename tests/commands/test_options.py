"""Every option of every command with values that cannot be meant: refused in one line, or admitted because it fits.

Options are found in the commands themselves, so that a new one is tried without a line here.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from stylegan_oct import limits
from tools import _options
from tools.__main__ import COMMANDS, main

NUMBERS = ("nan", "inf", "-inf", "0", "-1", "1e300", "-1e300", str(2**31), str(2**32), str(2**64), str(2**64 + 1), "")
ODD = ("1,,2", "1_0", "\u0663", "0x10", "1e", "9" * 6000, "-" + "9" * 6000, " ", "\u00bd")
KINDS = (_options.Whole, _options.Real)

# What the same words may mean in different commands; everything else is alike wherever it stands.
DIFFER = {
    "--border": "added, or taken away",
    "--batch": "pictures drawn at once, or images per update",
    "--class": "several, or the one that is searched, projected or moved",
    "--classes": "counts by class, or a way from class to class",
    "--codes": "atlas, traverse and walk each do something else with them",
    "--count": "pictures of a data set, of a library, of an evaluation, or to draw again",
    "--compare": "how many distances, or two reports",
    "--data": "what is trained on, and what was",
    "--biomarker": "a rule, or a curve",
    "--detector": "one, or several",
    "--grid": "one sheet, or walks in step",
    "--layers": "several ranges, or one",
    "--library": "drawn where it is missing, or read",
    "--method": "of maps, and of directions",
    "--noise": "speckle of pictures, or noise that is fitted",
    "--oracle": "measures, or rejects",
    "--out": "folders and files",
    "--overwrite": "each says what it replaces",
    "--precision": "of a training, which has more to say, and of drawing",
    "--preset": "of a training, and of a projection",
    "--resolution": "each says of what, and what is the default",
    "--samples": "of an atlas, and of directions",
    "--seed": "of all that is random, or of the first picture",
    "--seeds": "each says what they are for",
    "--space": "of a comparison, and of a projection",
    "--split": "of patients, and of pictures",
    "--steps": "of a projection, and of an encoder",
    "--training": "neighbours and exports do something else with it",
    "--weights": "of one detector, or by name",
}


def commands() -> Iterator[tuple[str, click.Command]]:
    group = main
    assert isinstance(group, click.Group)
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield name, command


def kinds(param: click.Parameter) -> tuple[click.ParamType[Any], ...]:
    return tuple(param.type.types) if isinstance(param.type, click.Tuple) else (param.type,)


OPTIONS = [(name, param) for name, command in commands() for param in command.params
           if not (isinstance(param, click.Option) and param.is_flag) and not param.is_eager]
NUMERIC = [(name, param) for name, param in OPTIONS if any(isinstance(kind, KINDS) for kind in kinds(param))]
LISTS = [(name, param) for name, param in OPTIONS
         if isinstance(param.type, (_options.Grid, _options.Layers, _options.Seeds))]
WORDS = [(name, param) for name, param in OPTIONS if (name, param) not in [*NUMERIC, *LISTS]]


def named(some: list[tuple[str, click.Parameter]]) -> list[Any]:
    return [pytest.param(name, param, id=f"{name} {param.opts[-1]}") for name, param in some]


def call(name: str, param: click.Parameter, value: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Result, list[Any]]:
    """Parse the command with the value; its body only takes note of what it gets."""
    command = dict(commands())[name]
    got: list[Any] = []
    monkeypatch.setattr(command, "callback", lambda *_args, **options: got.append(options[param.name]))
    needed = {"convert": ["there", "x.zip", "--resolution", "32"], "pack": ["x.safetensors"],
              "import-weights": ["x.pkl", "out"]}.get(name, [])
    given = [f"{param.opts[-1]}={value}"] if isinstance(param, click.Option) else ["--", value]
    if param.nargs > 1:
        given = [param.opts[-1], *[value] * param.nargs]
    if isinstance(param, click.Argument):
        values = {"source": [value, "x.zip"], "dest": ["there", value] if name == "convert" else [value],
                  "file": [value, "out"], "out": ["x.pkl", value]}
        needed, given = needed[2:], ["--", *values.get(str(param.name), [value])]
    return CliRunner().invoke(main, [name, *needed, *given]), got


def refused(result: Result, param: click.Parameter) -> None:
    """One line that names the option, and what is allowed; no more of a long value than is needed."""
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and len(lines) == 1, result.output
    assert any(opt in lines[0] for opt in [*param.opts, param.human_readable_name]), lines
    assert len(lines[0]) < 700 and lines[0].startswith("error: ")


def fits(kind: click.ParamType[Any], value: str) -> bool:
    """Whether a value is a number within the limits, by another way than the options go."""
    assert isinstance(kind, KINDS)
    allowed = kind.limits
    try:
        number = float(value) if value.isascii() and "_" not in value and len(value) < 50 else math.nan
    except ValueError:
        return False
    whole = not allowed.whole or (math.isfinite(number) and value.strip().lstrip("+-").isdigit())
    power = not allowed.power_of_two or (1 <= number <= 10**9 and int(number).bit_count() == 1)
    return whole and allowed.least <= number <= allowed.most and power


@pytest.mark.parametrize("name, param", named(NUMERIC))
def test_a_number_is_refused_or_fits(name: str, param: click.Parameter, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (*NUMBERS, *ODD):
        result, got = call(name, param, value, monkeypatch)
        if all(fits(kind, value) for kind in kinds(param)):
            assert result.exit_code == 0 and got, (value, result.output)
        else:
            refused(result, param)
            assert not got


def test_numbers_have_limits_of_ours_everywhere_and_the_ends_fit() -> None:
    assert len(NUMERIC) * len((*NUMBERS, *ODD)) > 400
    for name, param in OPTIONS:
        for kind in kinds(param):
            bare = (click.INT, click.FLOAT, click.STRING, click.IntRange, click.FloatRange)
            assert kind not in bare and type(kind) not in bare, f"{name} {param.opts} has no limits"
            if isinstance(kind, KINDS):
                for end in (kind.limits.least, kind.limits.most):
                    assert math.isfinite(end) and kind.limits.allow(end)


# What of the sweep fits: 0 where nothing, a margin, the first seed or no share is meant.
def test_what_is_admitted_is_a_short_list() -> None:
    admitted = {(param.opts[-1], value) for _, param in NUMERIC for value in (*NUMBERS, *ODD)
                if all(fits(kind, value) for kind in kinds(param))}
    zero = {opt for opt, value in admitted if value == "0"}
    assert zero == {"--psi", "--seed", "--pictures", "--val", "--test", "--oracle-min", "--count", "--compare",
                    "--gamma", "--aug-p", "--target", "--freeze-d", "--processes"}
    assert admitted - {(opt, "0") for opt in zero} == {("--target", "-1")}


@pytest.mark.parametrize("name, param", named(LISTS))
def test_a_list_of_numbers_is_refused_or_fits(name: str, param: click.Parameter,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    fit = {"seeds": {"0", str(2**31)}, "layers": {"0"}, "grid": set()}[param.type.name]
    more = ("0-4294967295", "0-99999999999999999999999", "1-" * 400, "3-1", "1x0", "0x0", "99999999999x1", "1x1x1", "-")
    for value in (*NUMBERS, *ODD, *more):
        result, got = call(name, param, value, monkeypatch)
        if value in fit:
            assert result.exit_code == 0 and got
        else:
            refused(result, param)
            assert not got


@pytest.mark.parametrize("name, param", named(WORDS))
def test_words_and_paths_are_never_blank_nor_endless(name: str, param: click.Parameter,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    blank_too = param.name in ("data_name", "data_licence")
    for value in ("", " ", "x" * 5000, "\u00fc" * 2500):
        result, got = call(name, param, value, monkeypatch)
        if blank_too and not value.strip():
            assert result.exit_code == 0 and got == [value]
        else:
            refused(result, param)
            assert not got


def test_options_of_one_name_are_alike_in_all_commands() -> None:
    seen: dict[str, dict[tuple[Any, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, command in commands():
        for param in command.params:
            if isinstance(param, click.Option):
                what = (repr(param.type), param.is_flag, param.multiple, param.nargs, param.metavar, param.help)
                seen[max(param.opts, key=len)][what].append(name)
    differing = {opt for opt, found in seen.items() if len(found) > 1}
    assert differing <= set(DIFFER), {opt: dict(seen[opt]) for opt in differing - set(DIFFER)}
    assert set(DIFFER) == differing, f"no longer differ: {set(DIFFER) - differing}"


def test_options_of_one_destination_have_one_name() -> None:
    """--kimg is total_kimg in one command, but a seed is a seed: --seed everywhere."""
    names: dict[str, set[str]] = defaultdict(set)
    for _, param in OPTIONS:
        if isinstance(param, click.Option):
            names[str(param.name)].add(max(param.opts, key=len))
    assert {name: found for name, found in names.items() if len(found) > 1} == {"classes": {"--class", "--classes"}}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**64, 10**5000, -1, True, "1", None],
                         ids=["nan", "inf", "-inf", "2^64", "10^5000", "-1", "True", "word", "None"])
def test_limits_refuse_python_values_too(value: object) -> None:
    for allowed in (limits.SEED, limits.PSI, limits.BATCH, limits.RESOLUTION, limits.KIMG):
        assert not allowed.allow(value)
        with pytest.raises(Exception, match="^x must be a .* from .* to .*; got ") as caught:
            allowed.check("x", value)
        assert len(str(caught.value)) < 200
