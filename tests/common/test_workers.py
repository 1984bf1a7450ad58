"""Processes that call functions: answers and errors come back, and one that dies is said."""

import math
import operator
import os
from collections.abc import Callable
from typing import Any

import pytest

from benchmark.common.workers import Workers


def call_all(function: Callable[..., Any], calls: list[tuple[Any, ...]], count: int) -> list[tuple[int, Any]]:
    with Workers(count) as workers:
        return list(workers.call_all(function, calls))


@pytest.mark.parametrize("count", [1, 2])
def test_every_answer_comes_with_the_number_of_its_call(count: int) -> None:
    answers = dict(call_all(operator.mul, [(i, i) for i in range(7)], count))
    assert answers == {i: i * i for i in range(7)}


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_is_raised_here(count: int) -> None:
    with pytest.raises(ValueError, match=r"domain|positive"):
        call_all(math.log, [(-1.0,)], count)


def test_a_process_has_one_thread_and_one_that_dies_is_said() -> None:
    assert dict(call_all(os.getenv, [("OMP_NUM_THREADS",)], 2)) == {0: "1"}
    with pytest.raises(RuntimeError, match="ended without a word"):
        call_all(os._exit, [(3,)], 2)
