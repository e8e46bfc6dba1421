"""Directions that need no labels: principal components of w, and the factorisation of the style weights."""

import torch
from torch import Tensor

from stylegan_oct.networks.generator import Generator
from stylegan_oct.networks.layers import FullyConnectedLayer
from stylegan_oct.networks.synthesis import SynthesisBlock


def principal_steps(w: Tensor, count: int) -> Tensor:
    """Return the first principal components of a sample of w, each as long as one standard deviation along it.

    Härkönen et al. 2020 ("GANSpace: Discovering Interpretable GAN Controls"), section 2.2; here within one class.

    Args:
        w: [N, w_dim].
        count: how many.
    Returns:
        [count, w_dim], float32, by falling standard deviation; the largest component of each is positive.
    """
    values, vectors = torch.linalg.eigh(torch.cov(w.double().T))  # rising
    return _signed(vectors.flip(1).T[:count] * values.flip(0)[:count, None].clamp(min=0).sqrt())


def factor_steps(network: Generator, w: Tensor, layers: tuple[int, int], count: int) -> Tensor:
    """Return the directions that the style weights of some layers amplify most.

    Shen and Zhou 2021 ("Closed-Form Factorization of Latent Semantics in GANs", SeFa), Eq. 5: the eigenvectors of
    A^T A with the largest eigenvalues, where A holds the weights that map w to the styles of these layers.

    Args:
        network: whose style weights are factorised.
        w: [N, w_dim], a sample that tells how long one standard deviation along each direction is.
        layers: the first and the last.
        count: how many.
    Returns:
        [count, w_dim], float32, by falling eigenvalue; the largest component of each is positive.
    """
    A = torch.cat(style_weights(network, layers)).double()                # [sum of channels, w_dim]
    vectors = torch.linalg.eigh(A.T @ A).eigenvectors.flip(1).T[:count]   # [count, w_dim]
    deviations = (w.double() @ vectors.T).std(dim=0)
    return _signed(vectors * deviations[:, None])


def style_weights(network: Generator, layers: tuple[int, int]) -> list[Tensor]:
    """Return the matrices [channels, w_dim] that map w to styles in the layers first..last, toRGB included."""
    first, last = layers
    found = []
    index = 0
    for resolution in network.synthesis.resolutions:
        block = network.synthesis.get_submodule(f"b{resolution}")
        assert isinstance(block, SynthesisBlock)
        names = [name for name in ("conv0", "conv1", "torgb") if hasattr(block, name)]
        for offset, name in enumerate(names):  # toRGB reads the w of the next block's first convolution
            affine = block.get_submodule(name).affine
            assert isinstance(affine, FullyConnectedLayer)
            if first <= index + offset <= last:
                found.append(affine.weight.detach() * affine.weight_gain)
        index += block.num_conv
    return found


def _signed(steps: Tensor) -> Tensor:
    """Return rows with their largest component positive: eigenvectors have no sign of their own."""
    largest = steps.gather(1, steps.abs().argmax(dim=1, keepdim=True))
    return (steps * largest.sign()).to(torch.float32)
