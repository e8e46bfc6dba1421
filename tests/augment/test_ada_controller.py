import json

import pytest

from stylegan_oct.augment.controller import AdaController


def controller(p=0.0, **changes):
    return AdaController(**{"target": 0.6, "ada_nimg": 500_000, "p": p, "p_max": 0.85, **changes})


def test_p_rises_by_images_over_ada_images_while_d_is_too_sure():
    c = controller(0.1)
    assert c.update(0.9, 256) == pytest.approx(0.1 + 256 / 500_000)
    assert c.update(0.601, 256) == pytest.approx(0.1 + 512 / 500_000)


def test_p_falls_as_fast_as_it_rises():
    c = controller(0.1)
    c.update(0.9, 256)
    assert c.update(-0.2, 256) == pytest.approx(0.1)


def test_p_stays_where_the_target_is_met():
    assert controller(0.25).update(0.6, 256) == 0.25


def test_p_goes_from_0_to_1_in_ada_images():
    c = controller(p_max=1.0)
    for _ in range(500_000 // 1000):
        c.update(1.0, 1000)
    assert c.p == pytest.approx(1.0)


@pytest.mark.parametrize("sign_mean, limit", [(1.0, 0.85), (-1.0, 0.0)])
def test_p_stays_within_its_limits(sign_mean, limit):
    c = controller(0.4)
    for _ in range(10):
        c.update(sign_mean, 100_000)
    assert c.p == limit


def test_undefined_sign_leaves_p_alone():
    assert controller(0.3).update(float("nan"), 256) == 0.3


def test_a_restored_controller_goes_on_bit_by_bit():
    c = controller()
    for i in range(100):
        c.update(0.5 + 0.01 * (i % 37), 333)
    other = controller(0.7)
    other.load_state_dict(json.loads(json.dumps(c.state_dict())))
    assert other.p == c.p
    assert other.update(0.9, 333) == c.update(0.9, 333)


def test_a_state_without_p_names_what_is_missing():
    with pytest.raises(KeyError, match="p"):
        controller().load_state_dict({})
