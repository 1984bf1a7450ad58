"""`icm-bench results check`: checks published records, and leaves what `results board` reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.results.answers import Answers
from benchmark.results.checking import problems_of
from benchmark.results.packed import Entry, GroupKey, Images, write_packed
from benchmark.results.records import Details, Published, read_results, write_table


@dataclass(frozen=True)
class Checked:
    """Result of a check.

    Attributes:
        records: number of records that could be read.
        answers: number of answers of all records.
        problems: one sentence for each problem: the file, the line or field, and the remedy.
    """

    records: int
    answers: int
    problems: list[str]

    def text(self) -> str:
        """Return the result as text."""
        end = f"{len(self.problems)} problems" if self.problems else "no problem"
        return f"{self.records} records with {self.answers:,} answers: {end}"


def check_results(folder: Path) -> Checked:
    """Check all records of a results folder: schema, checksums, arithmetic, verdicts.

    If there is no problem, `results.csv` and the packed answers for `results board` are written anew.

    Raises:
        IcmBenchError: the folder has no records.
    """
    results = Storage(str(folder))
    published, problems = read_results(results)
    if not published and not problems:
        raise IcmBenchError(f"{results.path('')} has no records; `icm-bench publish RECIPE --to FOLDER` writes some.")
    problems += problems_of(published, unread=bool(problems))
    if not problems:
        write_table(results)
        write_packed(folder, groups_of(published))
    return Checked(len(published), sum(len(one.answers or ()) for one in published), problems)


def groups_of(published: Sequence[Published]) -> dict[GroupKey, tuple[Images, list[Entry]]]:
    """Return the answers of all records by comparable group, for `packed`: the union of images, and each record on it.

    Records without answers are left out.
    """
    groups: dict[GroupKey, list[tuple[Published, Answers]]] = {}
    for one in published:
        if one.answers is not None:
            groups.setdefault(_key(one.details), []).append((one, one.answers))
    return {key: _packed(members) for key, members in groups.items()}


def _key(details: Details) -> GroupKey:
    protocol = details.protocol, details.test_split, details.class_half, details.folds
    return GroupKey(
        details.dataset, details.data_fingerprint, *protocol, tuple(details.seeds), tuple(details.held_outs)
    )


def _packed(members: Sequence[tuple[Published, Answers]]) -> tuple[Images, list[Entry]]:
    fields = ("sample", "held_out", "unit", "label", "seed", "half")
    every = {name: np.concatenate([getattr(answers, name) for _, answers in members]) for name in fields}
    tests = zip(*(every[name].tolist() for name in ("held_out", "seed", "half", "sample")), strict=True)
    _, first, index = np.unique(["\0".join(map(str, test)) for test in tests], return_index=True, return_inverse=True)
    entries, end = list[Entry](), 0
    for one, answers in members:
        begin, end = end, end + len(answers)
        answered, correct = np.zeros((2, len(first)), dtype=bool)
        answered[index[begin:end]], correct[index[begin:end]] = True, answers.correct
        details, alike = one.details, sum(_name(other) == _name(one) for other, _ in members)
        variant = f"recipe {details.recipe_name} {details.recipe_hash[:8]}" if alike > 1 else ""
        looks, is_plain = details.looks_at_target, details.projection == "identity" and not details.variant
        entries.append(Entry(one.path, *_name(one), looks, is_plain, answered, correct, variant))
    return Images(**{name: values[first] for name, values in every.items()}), entries


def _name(one: Published) -> tuple[str, str, str, str, str]:
    details = one.details
    return one.model_id, details.encoder, details.method, details.predictor, details.rule
