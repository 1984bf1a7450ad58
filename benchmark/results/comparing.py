"""Comparison of a published record with the same result of another run."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from benchmark.common.errors import some
from benchmark.results.differences import differences
from benchmark.results.records import Details, Published, Publisher

TOLERANCE = 0.005  # of scores, as fractions, if weights, processor or versions differ
EQUAL, CLOSE, DIFFERS = "equal", "close", "differs"
_TEST = ["sample", "held_out", "half", "seed", "fold", "label", "predicted"]
_NOBODY = Publisher("", "", {"": "nobody/encoder"}, 0)
_SAME = ("dataset", "encoder", "protocol", "test_split", "class_half", "projection", "order", "variant", "predictor")
# Settings in the order in which a difference is named. The first ones make another experiment; with the others, scores
# may differ by the tolerance.
_EXPERIMENT = ("data", "prompts", "precision", "recipe")
_PLACES = {  # name -> how the paths of its details begin; a path counts where it is found first
    "data": ("data_fingerprint", "classes", "held_outs"),
    "weights": ("weights_fingerprint", "random_weights"),
    "prompts": ("prompts",),
    "precision": ("precision",),
    "engine": ("engine",),
    "recipe": ("recipe.", "folds", "seeds", "rule", "rounding"),
    "version of icm-bench": ("versions.icm-bench", "code_version"),
    "versions of packages": ("versions.",),
    "processor": ("machine",),
    "architecture of the encoder, or text pairs": ("publication",),  # it also counts data and weights
}


@dataclass(frozen=True)
class Compared:
    """A record compared with the same result of another run.

    Attributes:
        record: path of the record in its results folder.
        name: data set, encoder and method.
        status: `equal`; `close`, if settings such as versions differ and all scores are within the tolerance; else
            `differs`.
        settings: sentences on the settings that differ, the first one first.
        largest: largest difference of a score, a fraction; None if one of the two lacks a score.
        where: id of that score, such as `accuracy/sketch`, or of a score that only one of the two has.
        tolerance: allowed difference of a score, a fraction; 0 if everything must be equal.
        changed: images whose answer changed; None if the record is published without answers.
        images: number of tested images.
    """

    record: str
    name: str
    status: str
    settings: tuple[str, ...] = ()
    largest: float | None = None
    where: str = ""
    tolerance: float = 0.0
    changed: tuple[str, ...] | None = None
    images: int = 0

    def text(self) -> str:
        """Return the comparison as text of one line."""
        parts = [f"first setting that differs: {self.settings[0]}"] if self.settings else []
        if self.largest is None:
            parts.append(f"only one of the two has {self.where or 'such a result'}")
        else:
            size = f"largest difference of a score {self.largest:.6f}, in {self.where}"
            parts.append(f"{size} (tolerance {self.tolerance:g})")
        if self.changed is None:
            parts.append("published without answers, so changed images are unknown")
        elif self.changed:
            parts.append(f"{len(self.changed)} of {self.images} images changed: {some(self.changed)}")
        end = "" if self.status == EQUAL else f": {'; '.join(parts)}"
        return f"{self.status:8}{self.name} ({self.record}){end}"


def same_result(one: Details) -> tuple[Any, ...]:
    """Return what identifies a result within a run, apart from the settings that a comparison names."""
    return tuple(getattr(one, name) for name in _SAME)


def canonical(one: Published) -> bytes:
    """Return the bytes that are equal if a result was reproduced: its files, as if nobody had published them.

    So time, organization, relationship, the id of the encoder, and what contains it (the id and the file names of the
    record and of plain prediction) do not count. Everything else does: numbers, intervals, verdicts, settings,
    versions, processor and answers.
    """
    details = replace(one.details, plain=one.details.plain and "")
    return b"".join(replace(one, details=details, publisher=_NOBODY, file="").files().values())


def compared(record: Published, again: Published | None) -> Compared:
    """Return the comparison of a record with the same result of another run, `again`; None if the run has none."""
    details = record.details
    name = f"{details.dataset}, {details.encoder}, {details.method}"
    if again is None:
        return Compared(record.path, name, DIFFERS)
    if record.answers is None:
        again = replace(again, answers=None)
    settings = dict(_settings(details, again.details))
    stated, found = ({n.id: n.estimate for n in one.numbers} for one in (record, again))
    missing = sorted(stated.keys() ^ found.keys())
    apart = {key: abs(stated[key] - found[key]) for key in stated if key in found}
    where = missing[0] if missing else max(apart, key=lambda key: apart[key])
    largest = None if missing else apart[where]
    near = largest is not None and largest <= TOLERANCE and settings.keys().isdisjoint(_EXPERIMENT)
    same = not settings and canonical(record) == canonical(again)
    status = EQUAL if same else CLOSE if settings and near else DIFFERS
    changed, images = None, 0
    if record.answers is not None and again.answers is not None:
        both = pd.concat([record.answers[_TEST], again.answers[_TEST]])
        changed = tuple(sorted({*both.drop_duplicates(keep=False)["sample"]}))
        images = record.answers["sample"].nunique()
    allowed = TOLERANCE if settings else 0.0
    return Compared(record.path, name, status, tuple(settings.values()), largest, where, allowed, changed, images)


def _settings(stated: Details, found: Details) -> Iterator[tuple[str, str]]:
    """Yield (name, sentence) of the settings that differ, in the order of `_PLACES`."""
    apart = [*differences(vars(stated), vars(found))]
    for name, keys in _PLACES.items():
        of = [one for one in apart if one.path.startswith(keys)]
        apart = [one for one in apart if one not in of]
        if of:
            where, record, run = of[0]
            yield name, f"{name} ({where} is {record!r:.60} in the record and {run!r:.60} in the run)"
