"""The losses, as pure functions that return one value per sample.

Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN" (SG2). Logits are [N, 1].
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from torch_utils.ops.conv2d import no_weight_gradients


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating loss -log sigmoid(D(G(z))), [N] (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake_logits).squeeze(1)


def discriminator_fake_loss(fake_logits: Tensor) -> Tensor:
    """Return the fakes' part of the logistic loss, -log(1 - sigmoid(D(G(z)))), [N]."""
    return softplus(fake_logits).squeeze(1)


def discriminator_real_loss(real_logits: Tensor) -> Tensor:
    """Return the reals' part of the logistic loss, -log sigmoid(D(x)), [N]."""
    return softplus(-real_logits).squeeze(1)


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """Return |dD(x)/dx|^2 / 2 for each image, [N] (Mescheder et al. 2018, Eq. 9; weight gamma not included).

    Args:
        real_logits: [N, 1], attached to `real_images`.
        real_images: [N, C, H, W], before augmentation, requires grad.
    """
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)  # [N, C, H, W]
    return gradient.square().sum(dim=(1, 2, 3)) / 2


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """Return |J_w^T y| for each sample, [N], squares averaged over the layers (SG2, Eq. 4).

    Args:
        images: synthesis output, [N, C, H, W], attached to `ws`.
        ws:     latents that made `images`, [N, L, D], requires grad.
        noise:  y ~ N(0, 1) / sqrt(H * W), same shape as `images`.
    """
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)  # [N, L, D]
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Tensor, running_mean: Tensor, *, decay: float) -> tuple[Tensor, Tensor]:
    """Return (length - a)^2 for each sample, [N], and the new running mean a (SG2, Eq. 4).

    The mean a is the one that already contains these lengths, and the penalty is differentiated through it.
    """
    mean = running_mean.lerp(lengths.mean(), decay)
    return (lengths - mean).square(), mean
