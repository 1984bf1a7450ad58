"""What a self-check finds: accuracies beside published ones, what was tried otherwise, and the first suspect."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmark.commands.selfcheck.suspects import Suspect
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG

PASS, FAIL, NOT_COMPARABLE = "pass", "fail", "not comparable"
NO_SUSPECT = "none of the usual"
_SAME_FILES = 0.05  # by which share the number of images may differ from the catalog's


@dataclass(frozen=True)
class Environment:
    """One environment in a check.

    Attributes:
        accuracy: ours, in percent.
        published: the mean of the published accuracies, in percent.
        tolerance: within how many points ours must be of that mean.
        images: number of readable images.
    """

    accuracy: float
    published: float
    tolerance: float
    images: int

    @property
    def passes(self) -> bool:
        """Whether it is within the tolerance."""
        return abs(self.accuracy - self.published) <= self.tolerance


@dataclass(frozen=True)
class Tried:
    """What the accuracies are with one thing otherwise.

    Attributes:
        suspect: what that thing is: "template", "mean and std" ...
        detail: how it was otherwise, in words.
        accuracies: environment -> accuracy in percent.
        explains: whether all environments are within the tolerance then.
        distance: mean distance to what is published, in points.
    """

    suspect: str
    detail: str
    accuracies: Mapping[str, float]
    explains: bool
    distance: float


@dataclass(frozen=True)
class Selfcheck:
    """What a self-check found.

    Attributes:
        verdict: `pass`, `fail` or `not comparable`.
        reason: of a failure the first suspect; why nothing can be compared; empty where it passed.
        detail: the same in a sentence.
        dataset: name of the data set.
        backbone: label of the backbone.
        environments: what was held against what.
        tried: what was tried otherwise, where it failed.
        facts: what is known of backbone, prompts and machine, in plain data.
    """

    verdict: str
    reason: str
    detail: str
    dataset: str
    backbone: str
    environments: Mapping[str, Environment]
    tried: Sequence[Tried]
    facts: Mapping[str, Any]

    def text(self) -> str:
        """Return the answer for a person: a line for each environment and one sentence."""
        lines = [
            f"{name:<16} {of.accuracy:6.2f} %  published {of.published:6.2f} +/- {of.tolerance:.2f}  "
            f"{'pass' if of.passes else 'FAIL'}  ({of.images:,} images)"
            for name, of in self.environments.items()
        ]
        return "\n".join([*lines, f"{self.verdict}: {self.detail}"])


def tried_with(suspect: Suspect, accuracies: Mapping[str, float], environments: Mapping[str, Environment]) -> Tried:
    """Return what was tried, with how far it is from what is published."""
    off = {name: abs(accuracies[name] - of.published) for name, of in environments.items()}
    explains = all(off[name] <= of.tolerance for name, of in environments.items())
    return Tried(suspect.name, suspect.detail, accuracies, explains, fmean(off.values()))


def first_suspect(tried: Sequence[Tried]) -> tuple[str, str]:
    """Return the first suspect and a sentence: what explains the difference, else what comes nearest."""
    if explaining := next((one for one in tried if one.explains), None):
        return explaining.suspect, (
            f"first suspect: {explaining.suspect}. With {explaining.detail} all environments are within the tolerance."
        )
    if not tried:
        return NO_SUSPECT, "nothing was found that could be tried otherwise."
    nearest = min(tried, key=lambda one: one.distance)
    return NO_SUSPECT, (
        f"nothing that was tried explains the difference; nearest is {nearest.suspect} ({nearest.detail}), still "
        f"{nearest.distance:.1f} points off on average."
    )


def other_files(dataset: str, images: Mapping[str, int]) -> str:
    """Return in a sentence that the images are not those of the catalog; nothing where they are, or it has none."""
    facts = CATALOG.get(dataset)
    for name, count in images.items():
        expected = facts.environments.get(name, 0) if facts else 0
        if expected and abs(count - expected) > _SAME_FILES * expected:
            return f"{name} has {count:,} images, and the published numbers are of {expected:,}; get the whole set."
    return ""


def write_selfcheck(found: Selfcheck, file: Path) -> None:
    """Write a self-check as JSON, to be sent with a bug report: numbers, versions and settings, and no path."""
    Storage(str(file.absolute().parent)).write_bytes(file.name, (json.dumps(asdict(found), indent=2) + "\n").encode())
