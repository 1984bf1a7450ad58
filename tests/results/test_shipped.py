"""The records that the repository ships: small, sound, and with the answers of the demo's main methods alone."""

from benchmark.commands.results.labels import label_of
from benchmark.common.storage.files import Storage
from benchmark.results.checking import problems_of
from benchmark.results.records import read_results
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "results"


def test_the_shipped_records_are_sound_and_small() -> None:
    bytes_of = {file: file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()}
    answers = sum(size for file, size in bytes_of.items() if file.suffix == ".jsonl")
    assert sum(bytes_of.values()) - answers <= 5_000_000
    assert answers <= 4_000_000
    records, problems = read_results(Storage(str(FOLDER)))
    assert problems + problems_of(records, label_of) == []
    with_answers = [one.details.method for one in records if one.answers is not None]
    assert sorted(with_answers) == ["CLIP-ICM + zero-shot", "Shrinkage + zero-shot", "Zero-shot"]
    assert {one.details.recipe_name for one in records} == {"demo", "real", "family"}
