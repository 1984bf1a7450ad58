"""Comparison of a published record with the same result of another run."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.results.answers import Answers
from benchmark.results.differences import differences
from benchmark.results.records import Details, Published

TOLERANCE = 0.005  # of scores, as fractions, if weights, processor or versions differ
EQUAL, CLOSE, DIFFERS = "equal", "close", "differs"
_NAMES = ("evaluation_id", "retrieved_timestamp", "source_metadata")  # keys of records with times and names
_SAME = ("dataset", "encoder", "protocol", "test_split", "class_half", "projection", "order", "variant", "predictor")
# Settings in the order in which a difference is named. The first ones make another experiment; with the others, scores
# may differ by the tolerance.
_EXPERIMENT = ("data", "prompts", "precision", "recipe")
_PLACES = {
    "data": ("data_fingerprint", "classes", "held_outs"),
    "weights": ("weights_fingerprint", "random_weights"),
    "prompts": ("prompts",),
    "precision": ("precision",),
    "engine": ("engine",),
    "recipe": ("recipe", "folds", "seeds", "rule", "rounding"),
    "version of icm-bench": ("icm_bench",),
    "versions of packages": ("versions",),
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
        if self.status == EQUAL:
            return f"{self.status:8}{self.name} ({self.record})"
        parts = [f"first setting that differs: {self.settings[0]}"] if self.settings else []
        if self.largest is None:
            parts.append(f"only one of the two has {self.where or 'such a result'}")
        else:
            size = f"largest difference of a score {self.largest:.6f}, in {self.where}"
            parts.append(f"{size} (tolerance {self.tolerance:g})")
        if self.changed:
            more = f" and {len(self.changed) - 10} more" if len(self.changed) > 10 else ""
            parts.append(f"{len(self.changed)} of {self.images} images changed: {', '.join(self.changed[:10])}{more}")
        elif self.changed is None:
            parts.append("published without answers, so changed images are unknown")
        return f"{self.status:8}{self.name} ({self.record}): {'; '.join(parts)}"


def same_result(one: Details) -> tuple[Any, ...]:
    """Return what identifies a result within a run, apart from the settings that a comparison names."""
    return tuple(getattr(one, name) for name in _SAME)


def canonical(one: Published) -> bytes:
    """Return the bytes that are equal if a result was reproduced: the record without times and names.

    Left out are the id and the file names of the record, time, organization and relationship, the id of the encoder,
    the id of the record of plain prediction, and the checksum of the answers, which contain these ids; the answers
    themselves follow. Everything else counts: numbers, intervals, verdicts, settings, versions and processor.
    """
    record = {key: value for key, value in one.record.items() if key not in (*_NAMES, "detailed_evaluation_results")}
    library, model = record["eval_library"], record["model_info"]
    strings = {key: value for key, value in library["additional_details"].items() if key != "plain"}
    record["eval_library"] = {**library, "additional_details": strings}
    record["model_info"] = {key: value for key, value in model.items() if key not in ("id", "developer")}
    columns = {} if one.answers is None else {k: v.tolist() for k, v in sorted(vars(one.answers).items())}
    return json.dumps([record, columns], sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def compared(record: Published, again: Published | None) -> Compared:
    """Return the comparison of a record with the same result of another run, `again`; None if the run has none."""
    details = record.details
    name = f"{details.dataset}, {details.encoder}, {details.method}"
    if again is None:
        return Compared(record.path, name, DIFFERS)
    if record.answers is None:
        again = Published(again.path, again.record)
    settings = dict(_settings(details, again.details))
    stated, found = ({n.id: n.interval.estimate for n in one.numbers} for one in (record, again))
    missing = sorted(stated.keys() ^ found.keys())
    apart = {key: abs(stated[key] - found[key]) for key in stated if key in found}
    where = missing[0] if missing else max(apart, key=lambda key: apart[key])
    largest = None if missing else apart[where]
    if not settings:
        status = EQUAL if canonical(record) == canonical(again) else DIFFERS
    else:
        near = largest is not None and largest <= TOLERANCE and settings.keys().isdisjoint(_EXPERIMENT)
        status = CLOSE if near else DIFFERS
    changed, images = None, 0
    if record.answers is not None and again.answers is not None:
        changed, images = _changed(record.answers, again.answers), len(np.unique(record.answers.sample))
    allowed = TOLERANCE if settings else 0.0
    return Compared(record.path, name, status, tuple(settings.values()), largest, where, allowed, changed, images)


def _settings(stated: Details, found: Details) -> Iterator[tuple[str, str]]:
    """Yield (name, sentence) of the settings that differ, in the order of `_PLACES`."""
    one, other = _plain(stated), _plain(found)
    for name, keys in _PLACES.items():
        if at := next(differences({key: one[key] for key in keys}, {key: other[key] for key in keys}), None):
            yield name, f"{name} ({at.path} is {_shown(at.expected)} in the record and {_shown(at.stated)} in the run)"


def _plain(details: Details) -> dict[str, Any]:
    values = dict(vars(details))
    values["versions"] = {name: version for name, version in details.versions.items() if name != "icm-bench"}
    values["icm_bench"] = {"version": details.versions.get("icm-bench"), "code": details.code_version}
    values["recipe"] = {key: value for key, value in details.recipe.items() if key not in ("name", "prompts")}
    return values


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _changed(stated: Answers, found: Answers) -> tuple[str, ...]:
    """Return the images that have another answer, or are missing, in one of two runs."""
    of = [
        dict(
            zip(zip(*(getattr(one, name).tolist() for name in _TEST), strict=True), one.predicted.tolist(), strict=True)
        )
        for one in (stated, found)
    ]
    keys = {**of[0], **of[1]}
    return tuple(sorted({key[0] for key in keys if of[0].get(key) != of[1].get(key)}))


_TEST = ("sample", "held_out", "half", "seed", "fold", "label")
