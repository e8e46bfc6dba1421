"""What float32 means on a GPU."""

import warnings

import torch


def allow_tf32(on: bool) -> None:
    """Let products and convolutions of float32 on NVIDIA GPUs round their factors to 10 bits (TF32), or not.

    Said for both, since PyTorch's own defaults differ: convolutions do, matrix products do not. Weights, sums and
    everything else stay float32. Does nothing on a CPU, nor for GPUs before Ampere.
    """
    with warnings.catch_warnings():
        # These switches set the newer ones too; the newer alone would make reading these, as torch.compile does, fail.
        warnings.simplefilter("ignore")
        torch.backends.cuda.matmul.allow_tf32 = on
        torch.backends.cudnn.allow_tf32 = on
