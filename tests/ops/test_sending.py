"""What travels to a GPU: nothing waits, and no stream reads what has not arrived."""

import every_kernel_once
import pytest
import torch
from fake_gpu import FakeGpu, HostWaits, Race, WrongDevice

from torch_utils.ops.bias_act import ACTIVATIONS
from torch_utils.prefetch import prefetch
from torch_utils.transfer import fetch, send, send_like

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied() -> None:
    x = torch.arange(3)
    assert send(x, CPU) is x and send_like(x, torch.zeros(1)) is x
    assert [(a is x, b) for a, b in prefetch([(x, 1)], CPU)] == [(True, 1)]


def test_send_does_not_let_the_host_wait_and_the_plain_ways_do() -> None:
    x = torch.arange(3.0)
    with FakeGpu() as gpu, gpu.strict():
        assert torch.equal(gpu.values(send(x, gpu.device)), x)
        assert send_like(x.double(), send(x, gpu.device)).dtype == torch.float32
        for plain in (lambda: x.to(gpu.device), lambda: x.to(gpu.device, non_blocking=True),
                      lambda: x.pin_memory().to(gpu.device), lambda: torch.tensor([1.0], device=gpu.device)):
            with pytest.raises(HostWaits):
                plain()


def test_fetch_brings_what_stood_there_when_it_was_called() -> None:
    with FakeGpu() as gpu, gpu.strict():
        for x in (torch.ones(2, device=gpu.device), torch.ones(2)):
            wait = fetch(x)
            x.zero_()
            assert wait().tolist() == [1.0, 1.0]


def test_the_fake_gpu_refuses_what_a_real_one_does() -> None:
    with FakeGpu() as gpu, gpu.strict():
        x = torch.zeros(3, device=gpu.device)
        with pytest.raises(WrongDevice):
            x + torch.zeros(3)
        for wait in (lambda: x.sum().item(), lambda: bool(x.any()), x.tolist, x.nonzero, x.cpu, lambda: x[x > 0]):
            with pytest.raises(HostWaits):
                wait()
        with torch.cuda.stream(torch.cuda.Stream()), pytest.raises(Race):
            x + 1


def test_prefetch_hands_out_all_items_in_order_each_after_the_copy_of_the_next_began() -> None:
    read = []

    def items():
        for i in range(4):
            read.append(i)
            yield torch.full((2,), i, dtype=torch.uint8), i

    with FakeGpu() as gpu, gpu.strict():
        for i, (x, number) in enumerate(prefetch(items(), gpu.device)):
            assert number == i and read[-1] == min(i + 1, 3)
            doubled = x * 2  # a race, were the copy not waited for
            assert gpu.values(doubled).tolist() == [2 * i] * 2
            assert gpu.recorded[-1] == (x.data_ptr(), torch.cuda.current_stream())


def test_the_program_for_the_memory_checker_plans_every_kernel() -> None:
    with FakeGpu(values=False) as gpu:
        assert every_kernel_once.run_all(gpu.device, "kernel") == 16 * (8 + len(ACTIVATIONS)) + 4
    texts = [dict(variant.definitions) for variant in gpu.variants]
    for wanted in ("LAYOUT_planes", "LAYOUT_channels", "LAYOUT_any", "SEPARABLE", "HAS_CLAMP",
                   *(f"ACT_{act}" for act in ACTIVATIONS)):
        assert any(wanted in text for text in texts), wanted
