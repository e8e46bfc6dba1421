"""Directions that are named after what they change: linear readouts of w, and the likeliest move that changes one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stylegan_oct.latent.directions.file import Readout

STRENGTHS = torch.logspace(-4, 4, 33, dtype=torch.float64)  # of the ridge, times the mean variance of w


def fit_readout(w: Tensor, y: Tensor) -> Readout:
    """Return the ridge regression of y on w whose strength has the smallest leave-one-out error.

    That error is exact without refitting (Golub et al. 1979, "Generalized Cross-Validation"): a residual divided by
    one minus its leverage. For y = -1 and 1 the weight is Fisher's discriminant, a linear boundary at 0.

    Args:
        w: [N, w_dim].
        y: [N], finite.
    """
    x, t = w.double(), y.to(w.device, torch.float64)
    mean, middle = x.mean(dim=0), t.mean()
    U, s, Vt = torch.linalg.svd(x - mean, full_matrices=False)        # [N, K], [K], [K, w_dim]
    along = U.T @ (t - middle)                                        # [K]
    variance = s.square().mean()
    errors = []
    for strength in STRENGTHS * float(variance):
        shrink = s.square() / (s.square() + strength)                 # [K]
        leverage = U.square() @ shrink + 1 / len(t)                   # [N]
        errors.append(((t - middle - U @ (shrink * along)) / (1 - leverage).clamp(min=1e-9)).square().mean())
    strength = float(STRENGTHS[int(torch.stack(errors).argmin())] * float(variance))
    weight = Vt.T @ (s / (s.square() + strength) * along)             # [w_dim]
    return Readout(weight=weight.to(torch.float32), constant=float(middle - mean @ weight))


def likeliest_step(readout: Readout, covariance: Tensor) -> Tensor:
    """Return the step that changes a readout by one standard deviation and stays likeliest under N(., covariance).

    Among all steps d with a given change of the readout b, Sigma b / sqrt(b^T Sigma b) has the smallest d^T Sigma^-1 d:
    it goes where samples are. For a boundary between two classes it is the line between their means, while the
    boundary's normal (Shen et al. 2020, "InterFaceGAN", section 3.1) leaves them the sooner the flatter w lies.

    Args:
        readout: b.
        covariance: Sigma, of the samples that it was found with, [w_dim, w_dim].
    Returns:
        [w_dim], float32.
    """
    b = readout.weight.double()
    spread = covariance.double() @ b
    return (spread / (b @ spread).clamp(min=1e-30).sqrt()).to(torch.float32)


def orthogonalised(step: Tensor, readouts: Sequence[Readout], covariance: Tensor) -> Tensor:
    """Return a step changed as little as possible so that it leaves the readouts as they are.

    InterFaceGAN, section 3.2 (conditional manipulation), for any number of conditions, with lengths measured in
    standard deviations of w. The result has the length of `step` in this measure again.

    Args:
        step: [w_dim].
        readouts: what should stay.
        covariance: Sigma, [w_dim, w_dim].
    """
    if not readouts:
        return step
    d, sigma = step.double(), covariance.double()
    C = torch.stack([readout.weight.double() for readout in readouts], dim=1)  # [w_dim, K]
    lift = sigma @ C
    rest = d - lift @ (torch.linalg.pinv(C.T @ lift) @ (C.T @ d))

    inverse = torch.linalg.inv(sigma + 1e-6 * sigma.diagonal().mean() * torch.eye(len(d)))

    def square(v: Tensor) -> Tensor:
        length: Tensor = v @ inverse @ v
        return length

    free: Tensor = rest * (square(d) / square(rest).clamp(min=1e-30)).sqrt()
    return free.to(torch.float32)
