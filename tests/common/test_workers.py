"""Processes that call functions: answers and errors come back, and one that dies is said."""

import math
import os
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from benchmark.common.errors import FaultError, IcmBenchError
from benchmark.common.workers import Workers


def call_all(function: Callable[..., Any], calls: list[tuple[Any, ...]], count: int) -> list[tuple[int, Any]]:
    with Workers(count) as workers:
        return list(workers.call_all(function, calls))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_every_answer_comes_with_the_number_of_its_call_and_in_order(count: int) -> None:
    answers = call_all(range, [(i, 2 * i) for i in range(7)], count)
    for i in range(7):
        assert [answer for number, answer in answers if number == i] == list(range(i, 2 * i))
    assert len(answers) == sum(range(7))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_error_is_raised_here_and_answers_before_it_have_come(count: int) -> None:
    with Workers(count) as workers:
        came = workers.call_all(map, [(math.sqrt, (4.0, -1.0))])
        assert next(came) == (0, 2.0)
        with pytest.raises(FaultError if count else ValueError, match=r"domain|nonnegative|positive"):
            next(came)


@pytest.mark.parametrize("count", [0, 1])
def test_a_call_that_is_begun_is_waited_for_later(count: int) -> None:
    with Workers(count) as workers:
        assert workers.begin(map, [(math.sqrt, (4.0, 9.0)), (math.sqrt, (16.0,))])() == [2.0, 3.0, 4.0]
        of_none = workers.begin(map, [(math.sqrt, (-1.0,))])
        time.sleep(0.5 * count)  # a process has begun it
        with pytest.raises(FaultError if count else ValueError, match=r"domain|nonnegative|positive"):
            of_none()


def test_what_no_process_has_begun_is_called_here(monkeypatch: pytest.MonkeyPatch) -> None:
    with Workers(1) as workers:
        assert workers.begin(map, [(os.getenv, ("OMP_NUM_THREADS",))])() in (["1"], [os.environ.get("OMP_NUM_THREADS")])
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        begun = workers.begin(map, [(time.sleep, (1.0,)), *[(os.getenv, ("OMP_NUM_THREADS",))] * 2])
        time.sleep(0.3)
        assert begun() == [None, "7", "7"]


def test_a_process_has_one_thread_and_one_that_dies_is_said() -> None:
    assert call_all(map, [(os.getenv, ("OMP_NUM_THREADS",))], 2) == [(0, "1")]
    with pytest.raises(IcmBenchError, match="ended without an error"):
        call_all(map, [(os._exit, (3,))], 2)


def test_an_answer_that_cannot_be_made_again_here_is_an_error_and_not_waited_for() -> None:
    unlucky = "[type('A', (), {'__reduce__': lambda self: (__import__('math').sqrt, (-1.0,))})()]"
    with pytest.raises(ValueError, match=r"domain|nonnegative|positive"):
        call_all(eval, [(unlucky,)], 1)


class Pickled:
    """Notes by which threads it is pickled."""

    threads: ClassVar[set[threading.Thread]] = set()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        self.threads.add(threading.current_thread())
        return int, ()


def test_calls_are_pickled_by_the_thread_that_makes_them_and_that_may_change_them() -> None:
    assert sorted(call_all(map, [(str, (Pickled(),))] * 9, 2)) == [(i, "0") for i in range(9)]
    with Workers(1) as workers:
        assert len(workers.begin(map, [(str, (Pickled(),))] * 3)()) == 3
    assert Pickled.threads == {threading.current_thread()}


def test_who_leaves_early_leaves_no_process(capfd: pytest.CaptureFixture[str]) -> None:
    with Workers(2) as workers:
        for _ in workers.call_all(map, [(time.sleep, (0.0, 60.0))] * 4):
            break
        processes = list(workers._processes)
    assert all(process.returncode for process in processes)
    assert capfd.readouterr().err == ""
