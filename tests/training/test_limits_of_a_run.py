"""Every number of a run's configuration, as `--set` changes it, with values that cannot be meant."""

import dataclasses
import io
import json
import math
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import tiny_config

from dnnlib.config import override, parse_setting
from dnnlib.errors import ConfigError
from stylegan_oct.config import TrainConfig
from stylegan_oct.presets import parse_grow
from stylegan_oct.training.bar import Bar

VALUES = ("NaN", "Infinity", "-Infinity", "0", "-1", "1e300", "1e999", "4294967296", "18446744073709551617", "9" * 1500,
          "9" * 6000, '""', "nan", "true", "[1]")
ZERO_FITS = {"data.workers", "G.num_fp16_res", "D.num_fp16_res", "D.freeze_layers", "augment.p", "augment.target",
             "r1.gamma", "path_length.weight", "path_length.decay", "optimizer.beta1", "optimizer.beta2",
             "save.every_min", "save.patience", "style_mixing", "seed"}


def numbers(kind: type[Any] = TrainConfig, prefix: str = "") -> Iterator[str]:
    """The dotted names of all fields that are numbers, parts included."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from numbers(typing.cast(type[Any], hint), f"{prefix}{field.name}.")
        elif {int, float} & {hint, *typing.get_args(hint)}:
            yield prefix + field.name


@pytest.mark.parametrize("name", list(numbers()))
@pytest.mark.parametrize("value", VALUES, ids=lambda value: value[:12])
def test_a_number_of_a_run_is_refused_in_a_line_or_fits(name: str, value: str, archive: Path) -> None:
    config = tiny_config(archive)
    fit = {("augment.target", "-1")} | {(field, "0") for field in ZERO_FITS} | {("data.resolution", "8")}
    try:
        changed = override(config, dict([parse_setting(f"{name}={value}")]))
    except ConfigError as error:
        assert (name, value) not in fit and name.rpartition(".")[2] in str(error).replace("-", "_")
        assert "\n" not in str(error) and len(str(error)) < 300
    else:
        assert (name, value) in fit and math.isfinite(json.loads(value)) and changed is not config


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1", "1e300", "4294967296", "9" * 1500, "1,,2", ""])
@pytest.mark.parametrize("form", ["{},16", "8:{},16", "8:{}", "{}"])
def test_stages_are_refused_in_a_line(value: str, form: str, make_config: Callable[..., TrainConfig]) -> None:
    preset = dataclasses.replace(make_config(), data=dataclasses.replace(make_config().data, resolution=16))
    with pytest.raises(ConfigError) as caught:
        parse_grow(form.format(value), preset)
    assert "\n" not in str(caught.value)


def test_without_a_terminal_training_says_how_far_it_is_once_a_minute(make_config: Callable[..., TrainConfig]) -> None:
    now, stream = [0.0], io.StringIO()
    bar = Bar(make_config().stages(), [1.0], 0, Console(file=stream, width=200), clock=lambda: now[0])
    for second in range(0, 181, 20):
        now[0] = float(second)
        bar.show(4 * (second // 20), "")
    assert len(stream.getvalue().splitlines()) == 3
    bar.tick(36, "")
    now[0] += 59
    bar.show(36, "")
    assert len(stream.getvalue().splitlines()) == 4
