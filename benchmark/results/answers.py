"""Answers: what one method answers to every tested image, as a data frame and as JSON lines.

The frame has one row for each test of an image, and the columns

    sample        path of the image inside its data set, or its id; it identifies the image
    environment   environment of the image
    held_out      held-out environment, or pair of environments; an image may be tested in several pairs
    group         group of the image (concept, burst); empty if images do not come in groups
    half          `all`, or with open classes the half of the classes: `base` or `new`
    seed          seed of the split
    fold          number of the tested fold; -1 for an 80/20 split
    label         class of the image
    predicted     predicted class
    kept_plain    whether the selection rule kept plain prediction in this test

A line is an instance of Every Eval Ever's schema. `answered` gives answers the form from which reports compute averages
and intervals.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_json
from benchmark.method.evaluation.answers import Answered, Key, Pooled
from benchmark.method.evaluation.tested import Tested
from benchmark.results.differences import differences

SCHEMA = "0.3.0"  # version of Every Eval Ever's schemas, of records and of lines
RESTORE = "restore the file as it was published, or remove it and publish its recipe again"
COLUMNS = [
    "sample", "environment", "held_out", "group", "half", "seed", "fold", "label", "predicted", "kept_plain",
]  # fmt: skip


class Heading(NamedTuple):
    """What all lines of a file of answers have in common; the record says the same."""

    evaluation_id: str  # `evaluation_id` of the record
    model_id: str  # the encoder, as developer/model
    dataset: str  # name of the data set
    rule: str  # selection rule


def to_jsonl(answers: pd.DataFrame, heading: Heading) -> bytes:
    """Return the file of answers: one JSON object on each line. Images are named, not included."""
    rows = answers[COLUMNS].itertuples(index=False, name=None)
    lines = (json.dumps(_line(heading, *row), ensure_ascii=False, separators=(",", ":")) for row in rows)
    return "".join(f"{line}\n" for line in lines).encode()


def of_jsonl(content: bytes, place: str, heading: Heading) -> pd.DataFrame:
    """Return the answers in a file.

    Args:
        content: the file.
        place: name of the file, for messages.
        heading: what its lines have in common, as its record says.

    Raises:
        IcmBenchError: a line is not a line that `to_jsonl` writes under this heading. The message names the line and
            the field.
    """
    rows: list[tuple[Any, ...]] = []
    for number, line in enumerate(content.splitlines(), start=1):
        where = f"{place}, line {number}"
        found = from_json(line, where, RESTORE)
        try:
            rows.append(_row(found))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IcmBenchError(f"{where} is not an answer ({error!r}); {RESTORE}.") from error
        for one in differences(_line(heading, *rows[-1]), found):
            raise IcmBenchError(f"{where}: {one.path} is {one.stated!r} instead of {one.expected!r}; {RESTORE}.")
    if not rows:
        raise IcmBenchError(f"{place} has no answers; {RESTORE}.")
    return pd.DataFrame(rows, columns=COLUMNS)


def _line(
    heading: Heading, sample: str, environment: str, held_out: str, group: str, half: str, seed: int, fold: int,
    label: str, predicted: str, kept_plain: bool,
) -> dict[str, Any]:  # fmt: skip
    correct = label == predicted
    return {
        "schema_version": SCHEMA, "evaluation_id": heading.evaluation_id, "model_id": heading.model_id,
        "evaluation_name": f"{heading.dataset}: accuracy in {held_out}", "evaluation_result_id": f"accuracy/{held_out}",
        "sample_id": sample, "interaction_type": "single_turn",
        "input": {"raw": sample, "reference": [label]}, "output": {"raw": [predicted]},
        "answer_attribution": [{
            "turn_idx": 0, "source": "output.raw", "extracted_value": predicted, "extraction_method": "exact_match",
            "is_terminal": True,
        }],
        "evaluation": {"score": float(correct), "is_correct": correct},
        "metadata": {
            "environment": environment, "held_out": held_out, "group": group, "half": half, "seed": str(seed),
            "fold": str(fold), "rule": heading.rule, "kept_plain": str(kept_plain).lower(),
        },
    }  # fmt: skip


def _row(line: Any) -> tuple[Any, ...]:
    """Return the row of a line: the arguments of `_line` besides the heading."""
    about, (label,), (predicted,) = line["metadata"], line["input"]["reference"], line["output"]["raw"]
    texts = line["sample_id"], *(about[name] for name in ("environment", "held_out", "group", "half"))
    numbers = int(about["seed"]), int(about["fold"])
    "".join((*texts, label, predicted))  # raises unless all are texts
    if not all(-1 <= number < 2**31 for number in numbers):
        raise ValueError(f"{numbers} are no seed and fold")
    return *texts, *numbers, label, predicted, about["kept_plain"] == "true"


def answered(parts: Sequence[pd.DataFrame]) -> list[Answered]:
    """Return the correctness of several methods, for each (held_out, seed); they share the numbers of images."""
    every = pd.concat(parts, keys=range(len(parts)), names=["part"])
    new, grouped = every["half"] == "new", bool((every["group"] != "").any())
    n_base = None if new.all() or not new.any() else every.loc[~new, "label"].nunique()
    names = np.unique(every["environment"])
    every["correct"] = every["label"] == every["predicted"]
    every["label"] = new.map({False: "0", True: "1"}) + every["label"]  # base classes first
    for name in ("label", "environment", "sample", "group"):
        every[name] = pd.factorize(every[name], sort=True)[0]
    pooled: list[dict[Key, Pooled]] = [{} for _ in parts]
    groups: Any = every.sort_values(["label", "sample"]).groupby(["part", "held_out", "seed"])
    for (part, held_out, seed), tests in groups:
        position, environment, label, group = tests[["sample", "environment", "label", "group"]].to_numpy().T
        tested = Tested(position, environment, label, tuple(names), group if grouped else None)
        pooled[part][held_out, seed] = Pooled(tests["correct"].to_numpy(), tested)
    return [Answered(one, int(every["label"].max()) + 1, n_base) for one in pooled]
