"""Networks, and pickles of them in the form of the official programs, written by classes made for it."""

import collections
import contextlib
import pickle
import sys
import types

import numpy as np
import torch
from torch import nn

from stylegan_oct.networks.discriminator import Discriminator
from stylegan_oct.networks.generator import Generator

SOURCE = "raise SystemExit('the source text of a network was run')"
NOT_OFFICIAL = {"w_avg_class", "resample_taps"}
SIZES = {"img_resolution": 32, "channel_base": 256, "channel_max": 16, "img_channels": 1, "c_dim": 3}


class EasyDict(dict):
    """A dictionary whose keys are attributes."""


def _reconstruct_persistent_obj(meta):
    raise AssertionError("nothing of a pickle is to be called")


class Layer:
    """A layer whose pickle is a call with its class's name, source text and attributes."""

    def __init__(self, module, changes, prefix=""):
        buffers = {name: value for name, value in module._buffers.items() if name not in NOT_OFFICIAL}
        plain = {name: value for name, value in vars(module).items()
                 if not name.startswith("_") and (value is None or isinstance(value, int | float | str))}
        if hasattr(module, "in_half"):
            plain["use_fp16"] = module.in_half
        gains = {name: np.float64(value) for name, value in plain.items() if name == "weight_gain"}
        self.kind = type(module).__name__
        children = {name: Layer(child, changes, f"{prefix}{name}.") for name, child in module._modules.items()
                    if child is not None}
        self.state = {"training": False, "_parameters": collections.OrderedDict(module._parameters),
                      "_buffers": collections.OrderedDict(buffers), "_non_persistent_buffers_set": set(),
                      "_backward_hooks": collections.OrderedDict(), "_modules": collections.OrderedDict(children),
                      "_init_args": (), "_init_kwargs": EasyDict(img_resolution=32), **plain, **gains,
                      **{name.removeprefix(prefix): value for name, value in changes.items()
                         if name.rpartition(".")[0] == prefix.rstrip(".")}}

    def __reduce__(self):
        return _reconstruct_persistent_obj, (EasyDict(
            type="class", version=6, module_src=SOURCE, class_name=self.kind, state=self.state),)


@contextlib.contextmanager
def official_names():
    """Let pickle find the functions under the names that they have in the official programs."""
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    before = _reconstruct_persistent_obj.__module__, EasyDict.__module__
    _reconstruct_persistent_obj.__module__, EasyDict.__module__ = persistence.__name__, util.__name__
    sys.modules[persistence.__name__], sys.modules[util.__name__] = persistence, util
    try:
        yield
    finally:
        del sys.modules[persistence.__name__], sys.modules[util.__name__]
        _reconstruct_persistent_obj.__module__, EasyDict.__module__ = before


def official_pickle(networks: dict[str, nn.Module], *, protocol: int = 4, **changes) -> bytes:
    """Return a snapshot; `changes` are attributes of layers by name, for all networks."""
    content = {"training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", path="/home/x.zip"),
               **{name: Layer(network.requires_grad_(False), changes) for name, network in networks.items()},
               "augment_pipe": None}
    with official_names():
        return pickle.dumps(content, protocol=protocol)


def networks(**options):
    torch.manual_seed(0)
    G = Generator(z_dim=6, w_dim=8, mapping_layers=3, **{**SIZES, **options})
    D = Discriminator(mapping_layers=2, mbstd_group_size=2, **{**SIZES, **options})
    for name, buffer in G.named_buffers():
        if name.endswith("noise_const"):
            buffer.normal_()
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.1)
    return {"G": G, "D": D, "G_ema": G}
