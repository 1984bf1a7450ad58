"""What work cost is kept by kind and amount, and a plan finds what is most alike and nearest."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.common.machine import processor
from benchmark.common.storage.files import Storage
from benchmark.store.costs import Cost, most_alike, read, remember


@pytest.fixture
def place(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "store"))


def of_trial(projection: str, work: float, seconds: float) -> Cost:
    return Cost(("trial", "zero_shot", projection), work, seconds)


def test_the_same_work_again_takes_the_place_of_what_it_cost(place: Storage, tmp_path: Path) -> None:
    other = Storage(str(tmp_path / "other"))
    remember([place, other], [of_trial("icm", 1e9, 2.0), of_trial("icm", 8e9, 12.0), of_trial("pca", 1e9, 1.0)])
    remember([place], [of_trial("icm", 1.01e9, 3.0)])
    assert sorted((c.kind[2], c.seconds) for c in read(place)) == [("icm", 3.0), ("icm", 12.0), ("pca", 1.0)]
    assert sorted((c.kind[2], c.seconds) for c in read(other)) == [("icm", 2.0), ("icm", 12.0), ("pca", 1.0)]
    assert all(c.machine for c in read(place))


def test_costs_that_are_added_at_the_same_moment_are_all_kept(place: Storage) -> None:
    forks = multiprocessing.get_context("fork")
    start = forks.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for again in range(5):
            remember([place], [of_trial(f"{number} {again}", 1.0, 2.0), of_trial("shared", 1.0, 1.0 + number)])

    processes = [forks.Process(target=work, args=(number,)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    known = [cost.kind[2] for cost in read(place)]
    assert sorted(known) == sorted(["shared", *(f"{number} {again}" for number in range(8) for again in range(5))])
    remember([place], [of_trial("shared", 1.0, 9.0)])
    assert len(place.files("costs", "")) == 1  # which has all of them
    assert len(read(place)) == 41
    assert [cost.seconds for cost in read(place) if cost.kind[2] == "shared"] == [9.0]


def test_a_kind_keeps_the_newest_amounts(place: Storage) -> None:
    for number in range(40):
        remember([place], [of_trial("icm", 2.0**number, 1.0 + number), of_trial("pca", 5.0, 1.0)])
    kept = [c.seconds for c in read(place) if c.kind[2] == "icm"]
    assert len(kept) < 30
    assert max(kept) == 40.0
    assert len(read(place)) == len(kept) + 1


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"a": 1}', b'[[["a"], 0, 1, ""]]', b'[[["a"], "x", 1, ""]]', b'[[["a"], 1, 1, "", 3]]']
)
def test_a_damaged_file_knows_nothing_and_is_written_anew(place: Storage, content: bytes) -> None:
    place.write_bytes("costs/measured-1.json", content)
    assert read(place) == []
    remember([place], [of_trial("icm", 1.0, 1.0)])
    assert len(read(place)) == len(place.files("costs", "")) == 1


def test_what_is_known_of_encoders_is_kept_and_records_of_an_earlier_version_are_read(place: Storage) -> None:
    embedding = Cost(("embedding", "x"), 100.0, 2.0, device="cpu", actors=2, cores=4, ceiling=9.5, memory=2**31)
    remember([place], [embedding, of_trial("icm", 1.0, 1.0)])
    assert read(place) == [replace(c, machine=processor()) for c in (embedding, of_trial("icm", 1.0, 1.0))]
    for name in place.files("costs", ""):
        place.delete(name)
    old = b'[[["embedding", "x"], 100.0, 2.0, "EPYC"], [["embedding", "x"], 9, 2.0, "", {"memory": 7.0, "later": 1}]]'
    place.write_bytes("costs/measured-1.json", old)
    first, second = read(place)
    assert first == Cost(("embedding", "x"), 100.0, 2.0, "EPYC")
    assert second.memory == 7


def test_what_took_no_time_or_no_work_is_left_out(place: Storage) -> None:
    remember([place], [of_trial("icm", 0.0, 1.0), of_trial("icm", 1.0, -0.1)])
    assert read(place) == []
    assert not place.files("costs", "")


def test_a_place_that_cannot_be_written_to_loses_no_work(tmp_path: Path, place: Storage) -> None:
    (tmp_path / "file").write_text("no folder")
    remember([Storage(str(tmp_path / "file")), place], [of_trial("icm", 1.0, 1.0)])
    assert len(read(place)) == 1


def test_likeness_comes_before_nearness_and_a_least_of_it_is_needed() -> None:
    costs = [of_trial("icm", 1e6, 1.0), of_trial("icm", 1e9, 2.0), of_trial("pca", 1e8, 3.0)]
    assert most_alike(costs, ("trial", "zero_shot", "icm", "more"), 1e8, 2) == costs[1]
    assert most_alike(costs, ("trial", "zero_shot", "random"), 2e8, 2) == costs[2]
    assert most_alike(costs, ("trial", "linear_probe", "icm"), 1e8, 2) is None
    assert most_alike([], ("trial",), 1.0, 0) is None
