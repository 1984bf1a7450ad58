"""Rows of any recipes and stores as one: merged, narrowed, and conflicts named."""

import re
from pathlib import Path
from typing import Any

import pytest

from benchmark.commands.gather import gather
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.store.records import RunRecord
from benchmark.store.rows import write_failure, write_rows
from benchmark.store.tested import write_tested
from tests.reports.synthetic import TESTED, row


def store(place: Path, **trials: list[dict[str, Any]]) -> Storage:
    storage = Storage(str(place))
    for name, rows in trials.items():
        write_rows(storage, name, rows)
        for one in rows:
            write_tested(storage, TESTED[one["tested"]])
    return storage


def record(*trials: str) -> RunRecord:
    return RunRecord("r", {}, "0" * 64, list(trials), len(trials))


def test_all_rows_of_a_store_whichever_recipe_wrote_them(tmp_path: Path) -> None:
    storage = store(tmp_path, one=[row(held_out="art")], two=[row(held_out="photo"), row(held_out="sketch")])
    every = gather([(storage, None)])
    assert sorted(every.rows["held_out"]) == ["art", "photo", "sketch"]
    assert (every.finished, every.planned, every.conflicts) == (2, None, ())
    assert set(every.tested) == set(every.rows["tested"])
    assert list(gather([(storage, record("one"))]).rows["held_out"]) == ["art"]


def test_two_stores_are_one_and_what_both_have_counts_once(tmp_path: Path) -> None:
    same = row(held_out="art", target=(0.7,))
    first = store(tmp_path / "a", one=[same], two=[row(held_out="photo")])
    second = store(tmp_path / "b", other=[same], three=[row(held_out="sketch")])
    both = gather([(first, None), (second, None)])
    assert sorted(both.rows["held_out"]) == ["art", "photo", "sketch"]
    assert both.stores == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert both.conflicts == ()


def test_unequal_numbers_of_the_same_row_are_left_out_and_both_stores_named(tmp_path: Path) -> None:
    first = store(tmp_path / "a", one=[row(held_out="art", target=(0.7,))])
    second = store(tmp_path / "b", other=[row(held_out="art", target=(0.6,)), row(held_out="photo")])
    both = gather([(first, None), (second, None)])
    assert list(both.rows["held_out"]) == ["photo"]
    [conflict] = both.conflicts
    assert f"{tmp_path / 'a'} (trial one) and {tmp_path / 'b'} (trial other)" in conflict


def test_rows_can_be_narrowed_by_column(tmp_path: Path) -> None:
    rows = [row(held_out=name, seed=seed) for name in ("art", "photo") for seed in (0, 1, 2)]
    storage = store(tmp_path, one=rows)
    some = gather([(storage, None)], {"seed": ["0", "2"], "held_out": ["art"]})
    assert list(zip(some.rows["held_out"], some.rows["seed"], strict=True)) == [("art", 0), ("art", 2)]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"sed": ["0"]}, "rows have no column 'sed'; did you mean seed?"),
        ({"seed": ["7"]}, "--where seed=7: no row has that; they have 0."),
    ],
)
def test_what_no_row_has_is_refused_in_a_sentence(tmp_path: Path, where: dict[str, list[str]], said: str) -> None:
    storage = store(tmp_path, one=[row()])
    with pytest.raises(IcmBenchError, match=re.escape(said)):
        gather([(storage, None)], where)


def test_failed_trials_of_a_store_are_its_gaps(tmp_path: Path) -> None:
    storage = store(tmp_path, one=[row()])
    write_failure(storage, "two", "a trial", "out of memory", "traceback")
    assert gather([(storage, None)]).failed == {"a trial": "out of memory"}


def test_an_empty_store_has_no_rows(tmp_path: Path) -> None:
    nothing = gather([(Storage(str(tmp_path)), None)])
    assert (len(nothing.rows), nothing.finished, nothing.failed) == (0, 0, {})
