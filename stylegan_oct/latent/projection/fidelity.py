"""How well one picture shows another: MSE, PSNR and SSIM over the part that is valid."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIGMA = 1.5                    # pixels, of the window
C1, C2 = 0.01**2, 0.03**2      # of Wang et al. 2004, for greys in 0..1


def fidelity(a: NDArray[np.uint8], b: NDArray[np.uint8], valid: NDArray[np.bool_]) -> dict[str, float]:
    """Return mse (of greys in 0..1), psnr (dB; infinite for equal pictures) and ssim (at most 1).

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", Eq. 13, with a
    Gaussian window.

    Args:
        a: uint8 [H, W] or [H, W, 3].
        b: the same.
        valid: [H, W]; the rest does not count.
    """
    assert a.shape == b.shape and a.shape[:2] == valid.shape, (a.shape, b.shape, valid.shape)
    if not valid.any():
        return {"mse": math.nan, "psnr": math.nan, "ssim": math.nan}
    x, y = (picture.reshape(*valid.shape, -1) / 255.0 for picture in (a, b))
    mse = float(np.square(x - y)[valid].mean())
    ssim = np.mean([_ssim(x[..., c], y[..., c], valid) for c in range(x.shape[2])])
    return {"mse": mse, "psnr": 10 * math.log10(1 / mse) if mse else math.inf, "ssim": float(ssim)}


def _ssim(x: NDArray[np.float64], y: NDArray[np.float64], valid: NDArray[np.bool_]) -> float:
    share = gaussian_filter(valid.astype(float), SIGMA, mode="constant")

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        local: NDArray[np.float64] = gaussian_filter(values * valid, SIGMA, mode="constant")[valid] / share[valid]
        return local

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    return float((((2 * mx * my + C1) * (2 * cov + C2)) / ((mx * mx + my * my + C1) * (vx + vy + C2))).mean())
