import dataclasses
import hashlib
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from stylegan_oct.phantom import render

PRINT_DIGEST = """
import hashlib
from stylegan_oct.phantom import render
print(hashlib.sha256(b"".join(render(3, i).image.tobytes() for i in range(6))).hexdigest())
"""


def digest_of_six():
    return hashlib.sha256(b"".join(render(3, i).image.tobytes() for i in range(6))).hexdigest()


def test_a_scan_depends_on_its_seed_and_index_alone():
    alone = render(7, 5, label="CNV").image
    render(7, 4)
    np.random.default_rng(0).random()
    np.testing.assert_array_equal(render(7, 5, label="CNV").image, alone)


@pytest.mark.parametrize("other", [(7, 6), (8, 5), (5, 7)])
def test_another_seed_or_index_is_another_eye(other):
    assert render(7, 5, label="DME").factors != render(*other, label="DME").factors


def test_the_same_bytes_come_from_another_process():
    out = subprocess.run([sys.executable, "-c", PRINT_DIGEST], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == digest_of_six()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names the vector units of x86 processors")
def test_the_same_bytes_come_from_a_processor_without_wide_vector_units():
    from numpy._core._multiarray_umath import __cpu_dispatch__ as units

    env = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(units)}
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", PRINT_DIGEST], capture_output=True, text=True, env=env)
    if out.returncode:
        pytest.skip(f"numpy cannot do without its vector units here: {out.stderr.splitlines()[-1]}")
    assert out.stdout.strip() == digest_of_six()


def test_coarser_pictures_show_the_same_eye():
    fine, coarse = render(2, 9, label="CNV"), render(2, 9, label="CNV", resolution=(64, 64))
    assert fine.factors == coarse.factors
    assert coarse.image.shape == (64, 64)


def test_finer_pictures_show_the_same_eye_and_lesions():
    native, finer = render(2, 9, label="CNV").factors, render(2, 9, label="CNV", resolution=(640, 900)).factors
    for field in dataclasses.fields(native):
        left, right = getattr(native, field.name), getattr(finer, field.name)
        same = pytest.approx(right, rel=0.05, abs=0.05) if isinstance(right, float) else right
        assert left == same, field.name


def test_a_class_changes_the_lesions_and_not_the_eye():
    kept = ("laterality", "width_mm", "fovea_x_mm", "tilt_deg", "curvature_um_per_mm2", "looks", "border_angle_deg")
    normal, dme = render(4, 4, label="NORMAL").factors, render(4, 4, label="DME").factors
    assert [getattr(normal, name) for name in kept] == [getattr(dme, name) for name in kept]
