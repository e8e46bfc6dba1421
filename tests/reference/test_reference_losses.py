"""The four losses and their parameter gradients against the official implementation."""

import pytest
import torch

from reference.official import assert_agrees, build
from stylegan_oct.training import losses

PL_WEIGHT, PL_DECAY, R1_GAMMA = 2.0, 0.01, 10.0


class Setting:
    """The networks of the losses, the inputs, and the values to agree with."""

    def __init__(self, reference):
        entries = {entry.get("net", "losses"): entry for entry in reference.cases("networks")}
        self.reference = reference
        self.G, self.D = build(reference, entries["G_skip"]), build(reference, entries["D_resnet"])
        self.expected = entries["losses"]["losses"]
        inputs = reference.tensors("networks_outputs", "loss/")
        self.z, self.c, self.real, self.pl_noise = (inputs[key] for key in ("z", "c", "real", "pl_noise"))

    def check(self, name, value, loss, network):
        """Compare a loss, and its gradient in every parameter: absent with one is absent or 0 with the other."""
        assert_agrees(value, torch.tensor(self.expected[name]), name)
        network.zero_grad()
        loss.backward()
        expected = self.reference.tensors("networks_outputs", f"loss_{name.partition('_')[0]}/grad/")
        parameters = dict(network.named_parameters())
        assert expected.keys() <= parameters.keys() and len(expected) > 20
        for key, parameter in parameters.items():
            ours = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert_agrees(ours, expected.get(key, torch.zeros_like(ours)), f"gradient of {key}")


@pytest.fixture
def setting(reference):
    return Setting(reference)


def test_generator_loss(setting):
    images = setting.G(setting.z, setting.c, noise_mode="const")
    loss = losses.generator_loss(setting.D(images, setting.c)).mean()
    setting.check("Gmain", loss, loss, setting.G)


def test_discriminator_loss(setting):
    with torch.no_grad():
        fakes = setting.G(setting.z, setting.c, noise_mode="const")
    loss = (losses.discriminator_fake_loss(setting.D(fakes, setting.c)).mean()
            + losses.discriminator_real_loss(setting.D(setting.real, setting.c)).mean())
    setting.check("Dmain", loss, loss, setting.D)


def test_r1_penalty(setting):
    real = setting.real.clone().requires_grad_()
    penalty = losses.r1_penalty(setting.D(real, setting.c), real)
    tensors = setting.reference.tensors("networks_outputs", "loss_Dr1/")
    assert_agrees(penalty * 2, tensors["penalty"], "squared norm of the gradient")
    loss = penalty.mean() * R1_GAMMA
    setting.check("Dr1_gamma10", loss, loss, setting.D)


def test_path_length_penalty(setting):
    n = len(setting.pl_noise)
    ws = setting.G.mapping(setting.z[:n], setting.c[:n])
    images = setting.G.synthesis(ws, noise_mode="const")
    noise = setting.pl_noise / (images.shape[2] * images.shape[3]) ** 0.5
    lengths = losses.path_lengths(images, ws, noise)
    assert_agrees(lengths, setting.reference.tensors("networks_outputs", "loss_Gpl/")["pl_lengths"], "lengths")
    penalty, mean = losses.path_length_penalty(lengths, torch.zeros(()), decay=PL_DECAY)
    assert_agrees(mean, torch.tensor(setting.expected["pl_mean"]), "running mean")
    loss = penalty.mean() * PL_WEIGHT
    setting.check("Gpl", loss, loss, setting.G)
