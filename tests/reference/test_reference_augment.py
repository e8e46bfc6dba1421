"""Every augmentation at its percentiles, and the wavelet filters, against the official implementation."""

import pytest
import torch

from reference.official import assert_agrees
from stylegan_oct.augment import filtering
from stylegan_oct.augment.pipeline import AugmentPipe


@pytest.mark.reference_cases("augment")
def test_augmentation(reference, case):
    tensors, channels = reference.tensors("augment"), case["channels"]
    pipe = AugmentPipe(case["augmentation"], channels=channels)
    images = pipe(tensors[f"images_{channels}"], 1.0, percentile=case["percentile"])
    assert_agrees(images, tensors[case["case"]])


@pytest.mark.parametrize("key, ours", [("Hz_geom", filtering.geometry_filter), ("Hz_fbank", filtering.filter_bank)])
def test_wavelet_filters(reference, key, ours):
    torch.testing.assert_close(ours().float(), reference.tensors("augment")[key], rtol=0, atol=1e-7)
