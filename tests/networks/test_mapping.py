"""The mapping network, its means and truncation."""

import pytest
import torch

from stylegan_oct.networks.mapping import W_AVG_DECAY, MappingNetwork

CLASSES, Z, W, WS = 3, 6, 5, 4


def make(c_dim=CLASSES):
    torch.manual_seed(0)
    mapping = MappingNetwork(Z, c_dim, W, num_ws=WS, num_layers=2)
    mapping.w_avg.normal_()
    if c_dim:
        mapping.w_avg_class.normal_()
    return mapping


def inputs(n=7):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, Z, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


def test_every_layer_gets_the_same_w():
    ws = make()(*inputs())
    assert ws.shape == (7, WS, W)
    assert all(torch.equal(ws[:, 0], ws[:, layer]) for layer in range(WS))


def test_indices_equal_one_hot_labels():
    z, c = inputs()
    mapping = make()
    one_hot = torch.nn.functional.one_hot(c, CLASSES)
    for options in ({}, {"psi": 0.3, "center": "class"}):
        torch.testing.assert_close(mapping(z, c, **options), mapping(z, one_hot.float(), **options), rtol=0, atol=0)


def test_the_length_of_z_is_ignored():
    z, c = inputs()
    torch.testing.assert_close(make()(z * 5, c), make()(z, c))


def test_psi_0_gives_the_mean_and_psi_1_the_sample():
    z, c = inputs()
    mapping = make()
    torch.testing.assert_close(mapping(z, c, psi=0.0), mapping.w_avg.expand(7, WS, W))
    of_class = mapping.w_avg_class[c][:, None].expand(-1, WS, -1)
    torch.testing.assert_close(mapping(z, c, psi=0.0, center="class"), of_class)
    torch.testing.assert_close(mapping(z, c, psi=1.0), mapping(z, c, psi=1.0 - 1e-7))


def test_psi_between_lies_on_the_line():
    z, c = inputs()
    mapping = make()
    middle = (mapping(z, c, psi=0.0) + mapping(z, c)) / 2
    torch.testing.assert_close(mapping(z, c, psi=0.5), middle)


def test_mixed_labels_have_the_mixed_mean():
    mapping = make()
    half = torch.tensor([[0.5, 0.5, 0.0]])
    ws = mapping(torch.randn(1, Z), half, psi=0.0, center="class")
    torch.testing.assert_close(ws[0, 0], (mapping.w_avg_class[0] + mapping.w_avg_class[1]) / 2)


@pytest.mark.parametrize("cutoff", [0, 1, 3, WS])
def test_cutoff_truncates_the_first_layers_alone(cutoff):
    z, c = inputs()
    mapping = make()
    ws = mapping(z, c, psi=0.2, cutoff=cutoff)
    torch.testing.assert_close(ws[:, :cutoff], mapping(z, c, psi=0.2)[:, :cutoff])
    torch.testing.assert_close(ws[:, cutoff:], mapping(z, c)[:, cutoff:])


def test_sums_do_not_depend_on_how_the_batch_is_cut():
    mapping, (z, c) = make(), inputs(12)
    ws = mapping(z, c)
    whole = mapping.w_sums(ws, c)
    parts = mapping.w_sums(ws[:5], c[:5]) + mapping.w_sums(ws[5:6], c[5:6]) + mapping.w_sums(ws[6:], c[6:])
    assert whole.shape == (1 + CLASSES, W + 1) and not whole.requires_grad
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    assert whole[:, -1].tolist() == [12, *torch.bincount(c, minlength=CLASSES).tolist()]


def test_means_move_towards_those_of_the_batch_and_stay_where_a_class_is_absent():
    mapping, (z, _) = make(), inputs()
    c = torch.tensor([0, 0, 1, 0, 1, 1, 0])
    ws = mapping(z, c)
    before, before_class = mapping.w_avg.clone(), mapping.w_avg_class.clone()
    mapping.update_w_avg(mapping.w_sums(ws, c))

    def moved(old, samples):
        return old * W_AVG_DECAY + samples.mean(dim=0) * (1 - W_AVG_DECAY)

    torch.testing.assert_close(mapping.w_avg, moved(before, ws[:, 0]))
    for label in (0, 1):
        torch.testing.assert_close(mapping.w_avg_class[label], moved(before_class[label], ws[c == label, 0]))
    assert torch.equal(mapping.w_avg_class[2], before_class[2])


def test_without_classes_there_is_one_mean_and_no_label():
    mapping, (z, _) = make(c_dim=0), inputs()
    ws = mapping(z, None)
    torch.testing.assert_close(mapping(z, torch.zeros(7, 0)), ws)
    mapping.update_w_avg(mapping.w_sums(ws, None))
    assert "w_avg_class" not in mapping.state_dict()
    with pytest.raises(AssertionError, match="without classes"):
        mapping(z, None, psi=0.5, center="class")


def test_a_missing_label_is_named():
    with pytest.raises(AssertionError, match="3 classes"):
        make()(inputs()[0], None)
