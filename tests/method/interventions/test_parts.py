"""Parts of a batch: every row once, by any thread, without side effects."""

import os
import signal
import threading

import pytest
import torch

from benchmark.method.interventions.photometric import ColorJitter
from benchmark.method.interventions.pixels import in_parts


@pytest.fixture(autouse=True)
def two_threads(threads: None) -> None:  # noqa: ARG001
    torch.set_num_threads(2)


@pytest.fixture
def large() -> torch.Tensor:
    """Five images, each a part of its own."""
    return torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 230, 230)


@pytest.mark.parametrize("many_passes", [True, False])
def test_every_image_is_worked_on_once(many_passes: bool, large: torch.Tensor) -> None:
    seen: list[int] = []

    def change(rows: slice) -> torch.Tensor:
        seen.extend(range(5)[rows])
        return large[rows] + 1

    assert torch.equal(in_parts(large, change, many_passes=many_passes), large + 1)
    assert sorted(seen) == [0, 1, 2, 3, 4]


def test_workers_keep_torchs_threads_to_themselves_and_leave_the_callers(large: torch.Tensor) -> None:
    inside: set[int] = set()
    later: list[int] = []

    def change(rows: slice) -> torch.Tensor:
        inside.add(torch.get_num_threads())
        return large[rows]

    in_parts(large, change)
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inside == {1}
    assert torch.get_num_threads() == 2
    assert later == [2]


def test_what_goes_wrong_in_a_part_is_raised(large: torch.Tensor) -> None:
    def change(rows: slice) -> torch.Tensor:
        raise ValueError(f"part {rows.start}")

    with pytest.raises(ValueError, match="part 0"):
        in_parts(large, change)
    assert torch.get_num_threads() == 2


def test_inference_mode_changes_nothing(large: torch.Tensor) -> None:
    ids = list("abcde")
    with torch.inference_mode():
        inside = ColorJitter().views(large + 100, ids, 0)
    assert torch.equal(inside, ColorJitter().views(large + 100, ids, 0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_workers_of_its_own(large: torch.Tensor) -> None:
    in_parts(large, lambda rows: large[rows])
    child = os.fork()
    if child == 0:  # no pass here is long enough for torch's own threads, which do not outlive a fork
        signal.alarm(20)  # ends the child that waits for dead workers
        views = in_parts(large, lambda rows: large[rows])
        os._exit(0 if views[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4] else 1)
    assert os.waitpid(child, 0)[1] == 0
