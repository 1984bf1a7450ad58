"""Modules that OpenVINO runs: the numbers of PyTorch for batches of any size, on cores that others have too."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from benchmark.common.conversion import converted, runner, save

SIZE = (16, 12)
TASKS = Path("/proc/self/task")


class Towers(torch.nn.Module):
    """A tower with so many convolutions, whose numbers tell images apart."""

    def __init__(self, convolutions: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(convolutions)]
            self.layers = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(3 * SIZE[0] * SIZE[1], 5))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        numbers: torch.Tensor = self.layers(pixels.float() / 255)
        return numbers


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("convolutions", [1, 2])  # patches as of a transformer, and a convolutional net
def test_batches_of_any_size_have_the_numbers_of_pytorch_in_order(
    convolutions: int, count: int, tmp_path: Path
) -> None:
    tower = Towers(convolutions).eval()
    save(converted(tower, SIZE), str(tmp_path / "tower.xml"))
    torch.set_num_threads(count)
    run = runner(str(tmp_path / "tower.xml"), "float32")
    draws = torch.Generator().manual_seed(1)
    for images in (1, 2, 5, 33, 70):
        pixels = torch.randint(0, 256, (images, 3, *SIZE), dtype=torch.uint8, generator=draws)
        with torch.inference_mode():
            expected = tower(pixels)
        found = run(pixels)
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        # What one call gave is not changed by the next, nor by how the pixels lie in memory.
        assert torch.equal(run(pixels.contiguous(memory_format=torch.channels_last)), found)
        run(torch.zeros_like(pixels))
        assert torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_after_a_batch_that_fails_others_are_run() -> None:
    run, pixels = runner(converted(Towers(2).eval(), SIZE), "float32"), torch.zeros((9, 3, *SIZE), dtype=torch.uint8)
    expected = run(pixels)
    with pytest.raises(RuntimeError):
        run(pixels[:, :, :-1])
    assert torch.equal(run(pixels), expected)


@pytest.mark.usefixtures("threads")
@pytest.mark.skipif(not TASKS.is_dir(), reason="threads are looked at in /proc")
def test_no_thread_is_tied_to_a_core() -> None:
    """Encoders of two processes would be tied to the same one, and leave others idle."""
    torch.set_num_threads(1)
    run, allowed = runner(converted(Towers(2).eval(), SIZE), "float32"), set()
    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(run, torch.zeros((4_000, 3, *SIZE), dtype=torch.uint8))
        while not working.done():
            for task in TASKS.iterdir():
                with suppress(OSError):  # it has ended
                    allowed.add(frozenset(os.sched_getaffinity(int(task.name))))
    assert allowed == {frozenset(os.sched_getaffinity(0))}
