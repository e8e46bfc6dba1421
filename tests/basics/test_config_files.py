import dataclasses
import json

import pytest

from dnnlib.config import from_dict, override, parse_setting, to_dict, to_json
from dnnlib.errors import ConfigError
from stylegan_oct.batches import LEARNT
from stylegan_oct.config import DataConfig, TrainConfig
from stylegan_oct.presets import LEAST, PRESETS, default_preset, fit_to_device, heuristic_gamma


def data(resolution: int = 256) -> DataConfig:
    return DataConfig(path="scans.zip", fingerprint="0", resolution=resolution, classes=("A", "B"))


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_every_preset_survives_json(name: str, gpus: int) -> None:
    config = PRESETS[name](data(), gpus)
    assert from_dict(TrainConfig, json.loads(to_json(config))) == config


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="gama.*Did you mean gamma"):
        override(PRESETS["demo"](data(64), 1), {"r1.gama": 2.0})


def test_a_missing_key_is_named() -> None:
    stored = to_dict(PRESETS["demo"](data(64), 1))
    del stored["batch"]
    with pytest.raises(ConfigError, match="lacks the field 'batch'"):
        from_dict(TrainConfig, stored)


@pytest.mark.parametrize(("field", "value"), [("batch", "many"), ("batch", 2.5), ("r1.gamma", True), ("G", 3),
                                              ("augment.mode", "sometimes"), ("data.classes", ["A", 2])])
def test_a_value_of_another_type_is_refused(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=field.split(".")[-1]):
        override(PRESETS["demo"](data(64), 1), {field: value})


def test_overrides_of_none_change_nothing_and_whole_numbers_serve_as_floats() -> None:
    config = PRESETS["oct256"](data(), 1)
    assert override(config, {"r1.gamma": None}) == config
    assert override(config, {"r1.gamma": 2}).r1.gamma == 2.0


def test_settings_are_read_as_json_or_words() -> None:
    assert parse_setting("r1.gamma=2.5") == ("r1.gamma", 2.5)
    assert parse_setting("augment.mode=fixed") == ("augment.mode", "fixed")
    assert parse_setting("ema.ramp=null") == ("ema.ramp", None)
    with pytest.raises(ConfigError, match="FIELD=VALUE"):
        parse_setting("gamma")


@pytest.mark.parametrize(("resolution", "gpus", "batch", "gamma", "ema", "group", "base"), [
    (32, 1, 32, 0.0064, 10.0, 4, 16384), (256, 1, 16, 0.8192, 5.0, 4, 16384), (512, 1, 8, 6.5536, 2.5, 4, 32768),
    (512, 2, 16, 3.2768, 5.0, 4, 32768), (1024, 8, 32, 6.5536, 10.0, 4, 32768), (256, 8, 64, 0.2048, 20.0, 4, 16384)])
def test_the_auto_preset_follows_the_published_rule(resolution: int, gpus: int, batch: int, gamma: float, ema: float,
                                                    group: int, base: int) -> None:
    config = PRESETS["auto"](data(resolution), gpus)
    assert (config.batch, config.batch_gpu) == (batch, batch // gpus)
    assert config.r1.gamma == pytest.approx(gamma) == heuristic_gamma(resolution, batch)
    assert config.ema.kimg == pytest.approx(ema)
    assert config.optimizer.G_lr == (0.002 if resolution == 1024 else 0.0025)
    assert (config.D.mbstd_group_size, config.G.channel_base, config.G.mapping_layers) == (group, base, 2)


def test_the_papers_presets_have_the_published_numbers() -> None:
    rows = {"stylegan2": (25000, 32, 4, 32768, 0.002, 10, 10, None, 8), "paper256": (25000, 64, 8, 16384, 0.0025, 1, 20,
            None, 8), "paper512": (25000, 64, 8, 32768, 0.0025, 0.5, 20, None, 8), "paper1024": (25000, 32, 4, 32768,
            0.002, 2, 10, None, 8), "cifar": (100000, 64, 32, 32768, 0.0025, 0.01, 500, 0.05, 2)}
    for name, row in rows.items():
        c = PRESETS[name](data(), 8)
        assert (c.total_kimg, c.batch, c.D.mbstd_group_size, c.G.channel_base, c.optimizer.G_lr, c.r1.gamma, c.ema.kimg,
                c.ema.ramp, c.G.mapping_layers) == row
    cifar = PRESETS["cifar"](data(32), 2)
    assert (cifar.path_length.weight, cifar.style_mixing, cifar.D.architecture) == (0, 0, "orig")


def test_sizes_that_cannot_work_name_the_nearest_that_can() -> None:
    config = PRESETS["demo"](data(64), 1)
    with pytest.raises(ConfigError, match="power of two from 8 to 1024; got 48"):
        dataclasses.replace(config, data=data(48))
    with pytest.raises(ConfigError, match="Try --batch 24"):
        override(config, {"batch": 20})
    with pytest.raises(ConfigError, match="Try --batch-gpu 8"):
        override(config, {"batch": 12, "batch_gpu": 6})


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_fitted_micro_batch_divides_the_batch_and_the_std_group(name: str, processes: int) -> None:
    raw = PRESETS[name](data(), processes)
    config = fit_to_device(raw, raw.batch_gpu, on_gpu=False, processes=processes)
    assert config.batch % (config.batch_gpu * processes) == 0
    assert config.batch_gpu <= LEAST or config.batch_gpu * config.feature_numbers() <= LEARNT


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    config = PRESETS["oct256"](data(), 1)
    with pytest.raises(ConfigError, match="multiple of the 3 processes.*Try --batch 33"):
        fit_to_device(config, 4, on_gpu=True, processes=3)


def test_identity_ignores_length_places_and_saving_but_not_what_is_learned() -> None:
    config = PRESETS["demo"](data(64), 1)
    for change in ({"total_kimg": 3}, {"save.keep": 9}, {"data.path": "elsewhere.zip"}, {"data.workers": 5}):
        assert override(config, change).identity() == config.identity()
    for change in ({"seed": 1}, {"r1.gamma": 9}, {"data.fingerprint": "1"}, {"batch": 32}):
        assert override(config, change).identity() != config.identity()


def test_the_default_preset_goes_by_the_resolution() -> None:
    sizes = (64, 128, 256, 512, 1024)
    assert [default_preset(r, on_gpu=True) for r in sizes] == ["demo", "oct256", "oct256", "oct512", "oct512"]
    assert [default_preset(r, on_gpu=False) for r in sizes] == ["demo", "demo256", "demo256", "small512", "small512"]


def test_the_length_is_a_whole_number_of_batches() -> None:
    config = override(PRESETS["demo"](data(64), 1), {"total_kimg": 0.1})
    assert config.total_nimg == 104
