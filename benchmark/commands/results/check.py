"""`icm-bench results check`: checks published records, and leaves what `results board` reads."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.commands.results.labels import label_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.results.checking import problems_of
from benchmark.results.packed import Entry, GroupKey, Images, write_packed
from benchmark.results.records import TABLE, Published, read_results, write_table


def check_results(folder: Path) -> tuple[dict[str, Any], str]:
    """Check all records of a results folder: schema, checksums, arithmetic, verdicts.

    If there is no problem, `results.csv` and the packed answers for `results board` are written anew.

    Returns:
        The numbers of records that could be read and of their answers, one sentence for each problem, and a note if
        `results.csv` was not that of the records; as plain data, and as text.

    Raises:
        IcmBenchError: the folder has no records.
    """
    results = Storage(str(folder))
    published, problems = read_results(results)
    if not published and not problems:
        raise IcmBenchError(f"{results.path('')} has no records; `icm-bench publish RECIPE --to FOLDER` writes some.")
    problems += problems_of(published, label_of, unread=bool(problems))
    notes: list[str] = []
    if not problems:
        before = results.read_if_there(TABLE)
        if write_table(results) and before is not None:
            lines = zip_longest(before.splitlines(True), results.read_bytes(TABLE).splitlines(True))
            line = next(number for number, (old, new) in zip(count(1), lines, strict=False) if old != new)
            notes.append(f"{TABLE} differed from the records, first in line {line}; it is written anew.")
        write_packed(folder, groups_of(published))
    answers = sum(len(one.answers) for one in published if one.answers is not None)
    text = f"{len(published)} records with {answers:,} answers: {len(problems) or 'no'} problems"
    found = {"records": len(published), "answers": answers, "problems": problems, "notes": notes}
    return found, "\n".join([text, *(f"note: {note}" for note in notes)])


def groups_of(published: Sequence[Published]) -> dict[GroupKey, tuple[Images, list[Entry]]]:
    """Return the answers of all records by comparable group, for `packed`: the union of images, and each record on it.

    Records without answers are left out.
    """
    groups = defaultdict[GroupKey, list[tuple[Published, pd.DataFrame]]](list)
    for one in published:
        if one.answers is not None:
            of = one.details
            tests = of.protocol, of.test_split, of.class_half, of.folds, tuple(of.seeds), tuple(of.held_outs)
            groups[GroupKey(of.dataset, of.data_fingerprint, *tests)].append((one, one.answers))
    return {key: _packed(members) for key, members in groups.items()}


def _packed(members: Sequence[tuple[Published, pd.DataFrame]]) -> tuple[Images, list[Entry]]:
    tests = ["held_out", "seed", "half", "sample"]
    every = pd.concat([answers for _, answers in members], keys=range(len(members)))
    every["unit"] = every["group"].where(every["group"] != "", every["sample"])
    every["number"] = every.groupby(tests).ngroup()
    images, entries = every.drop_duplicates("number").sort_values("number"), list[Entry]()
    for part, (one, own) in enumerate(members):
        answered, correct = np.zeros((2, len(images)), dtype=bool)
        numbers = every.loc[[part], "number"].to_numpy()
        answered[numbers], correct[numbers] = True, own["label"] == own["predicted"]
        details, alike = one.details, sum(_name(other) == _name(one) for other, _ in members)
        variant = f"recipe {details.recipe_name} {details.recipe_hash[:8]}" if alike > 1 else ""
        looks, is_plain = details.looks_at_target, details.projection == "identity" and not details.variant
        entries.append(Entry(one.path, *_name(one), looks, is_plain, answered, correct, variant))
    columns = ("sample", "held_out", "unit", "label", "seed", "half")
    return Images(**{name: images[name].to_numpy() for name in columns}), entries


def _name(one: Published) -> tuple[str, str, str, str, str]:
    details = one.details
    return one.model_id, details.encoder, details.method, details.predictor, details.rule
