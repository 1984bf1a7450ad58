"""`icm-bench selfcheck`: zero-shot of a published backbone against its published accuracies, and the first suspect."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.commands.embed import embed_views
from benchmark.commands.preparing.prepare import Notify, notify_on_stderr, prepare, wait_for
from benchmark.commands.selfcheck.suspects import Suspect, of_pixels, of_texts
from benchmark.commands.stores import open_store
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.plain import opened
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG
from benchmark.embedding.text_encoding import TextJob, begin_texts
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import ORIGINAL, read_texts, text_file
from benchmark.sweep.subject import Subject

if TYPE_CHECKING:
    from reports.analysis.published_checks import PublishedNumber

PASS, FAIL, NOT_COMPARABLE = "pass", "fail", "not comparable"
NO_SUSPECT = "none of the usual"
_PACKAGES = ("icm-bench", "torch", "open_clip_torch", "transformers", "timm", "pillow", "numpy", "ray")
_AS_PUBLISHED = Suspect("", "")
_SAME_FILES = 0.05  # by which share the number of images may differ from the catalog's


@dataclass(frozen=True)
class Environment:
    """One environment in a check, in percent."""

    accuracy: float  # ours
    published: float  # the mean of the published accuracies
    tolerance: float  # within how many points ours must be of that mean
    images: int  # that can be read

    @property
    def passes(self) -> bool:
        """Whether it is within the tolerance."""
        return abs(self.accuracy - self.published) <= self.tolerance


@dataclass(frozen=True)
class Tried:
    """What the accuracies are with one thing otherwise."""

    suspect: str  # what that thing is: "template", "mean and std" ...
    detail: str  # how it was otherwise, in words
    accuracies: Mapping[str, float]  # of each environment, in percent
    explains: bool  # whether all environments are within the tolerance then
    distance: float  # mean distance to what is published, in points


@dataclass(frozen=True)
class Selfcheck:
    """What a self-check found."""

    verdict: str  # `pass`, `fail` or `not comparable`
    reason: str  # of a failure the first suspect; why nothing can be compared; empty where it passed
    detail: str  # the same in a sentence
    dataset: str
    backbone: str
    environments: Mapping[str, Environment]
    tried: Sequence[Tried]  # otherwise, where it failed
    facts: Mapping[str, Any]  # of backbone, prompts and machine, in plain data

    def text(self) -> str:
        """Return the answer for a person: a line for each environment and one sentence."""
        lines = [
            f"{name:<16} {of.accuracy:6.2f} %  published {of.published:6.2f} +/- {of.tolerance:.2f}  "
            f"{'pass' if of.passes else 'FAIL'}  ({of.images:,} images)"
            for name, of in self.environments.items()
        ]
        return "\n".join([*lines, f"{self.verdict}: {self.detail}"])


def write_selfcheck(found: Selfcheck, file: Path) -> None:
    """Write a self-check as JSON, to be sent with a bug report: numbers, versions and settings, and no path."""
    Storage(str(file.absolute().parent)).write_bytes(file.name, (json.dumps(asdict(found), indent=2) + "\n").encode())


def checked_recipe(
    dataset: str, weights: str, published: "Sequence[PublishedNumber]", overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe of a self-check: one data set, one backbone, the template of the source, no intervention.

    Args:
        dataset: name in the catalog.
        weights: name of the backbone and its pretrained tag, as they are published: "ViT-B-32 openai".
        published: the numbers that it may be held against.
        overrides: as `load_recipe` takes them.
    """
    name, _, tag = weights.partition(" ")
    stated = [one.template for one in _of(published, dataset, weights) if one.template.count("{}") == 1]
    content = {
        "name": "selfcheck",
        "datasets": [dataset],
        "backbones": [{"name": name, **({"pretrained": tag} if tag else {})}],
        "interventions": {"kinds": []},
        "prompts": {"templates": stated[:1]} if stated else {},
        "sweep": {"projections": ["identity"], "predictors": ["zero_shot"]},
    }
    return parse_recipe(content, "selfcheck", overrides)


def published_in(file: Path | None) -> "Sequence[PublishedNumber]":
    """Return published accuracies: those of a CSV file, by default the package's."""
    from reports.analysis.published_checks import parse, read_published

    if file is None:
        return read_published()
    try:
        with opened(file, "--published:", "name a CSV file in UTF-8") as stream:
            return parse(stream.read().decode(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise IcmBenchError(f"--published: {file} cannot be read ({error}); name a CSV file in UTF-8.") from error


def selfcheck(recipe: Recipe, published: "Sequence[PublishedNumber]", notify: Notify = notify_on_stderr) -> Selfcheck:
    """Hold zero-shot accuracies of one backbone on one data set against published ones, through the usual pipeline.

    Where they differ, one thing after the other is tried otherwise: what brings all environments within the tolerance
    is the first suspect, else what comes nearest.

    Args:
        recipe: of one data set and one backbone; only the original images are embedded.
        published: the numbers that it may be held against.
        notify: takes each line for the person who watches.

    Raises:
        IcmBenchError: data set or backbone cannot be loaded, or nothing is published of them.
    """
    from reports.analysis.published_checks import accuracies, tolerance

    storage = open_store(recipe)
    with connected():
        check = _Check(recipe, storage, notify)
        name, tried = check.subject.manifest.name, list[Tried]()
        ours = check.accuracies(check.subject)
        sources = _comparable(published, check.subject)
        environments = {
            e: Environment(accuracy, fmean(accuracies(sources[e])), tolerance(sources[e]), check.images[e])
            for e, accuracy in ours.items()
        }
        verdict, reason, detail = PASS, "", "all environments are within the tolerance of what is published."
        if other := _other_files(name, check.images):
            verdict, reason, detail = NOT_COMPARABLE, "images", other
        elif not all(of.passes for of in environments.values()):
            tried = check.tried(environments, [one.template for one in published if one.template])
            verdict, (reason, detail) = FAIL, _first_suspect(tried)
    label = check.subject.facts.label
    return Selfcheck(verdict, reason, detail, name, label, environments, tuple(tried), check.facts())


class _Check:
    """One data set under one backbone, and the same with one thing otherwise."""

    def __init__(self, recipe: Recipe, storage: Storage, notify: Notify) -> None:
        self._recipe, self._storage, self._notify = recipe, storage, notify
        self.subject = self._embedded(recipe)
        index = self.subject.manifest.environment_index[self._readable(self.subject)]
        names = self.subject.manifest.environments
        self.images = {name: int((index == i).sum()) for i, name in enumerate(names)}

    def accuracies(self, subject: Subject, otherwise: Suspect = _AS_PUBLISHED) -> dict[str, float]:
        """Return environment -> zero-shot accuracy in percent."""
        templates = otherwise.templates or subject.prompts
        manifest, facts = subject.manifest, subject.facts
        names = [otherwise.rename(name) for name in manifest.prompt_names]
        wait_for(begin_texts(self._storage, TextJob(subject.backbone, facts, [names], templates)))
        text = read_texts(self._storage, text_file(facts, names, templates)).astype(np.float64)
        rows = self._readable(subject)
        ids = [manifest.table["image_id"][int(row)].as_py() for row in rows]
        chosen = next(one for one in subject.views if one.label == (otherwise.view or ORIGINAL))
        z = store.read(self._storage, chosen, ids).astype(np.float64)
        right = (z @ text.T).argmax(axis=1) == manifest.table["label"].to_numpy()[rows]  # lengths change no order
        index = manifest.environment_index[rows]
        return {name: 100 * float(right[index == i].mean()) for i, name in enumerate(manifest.environments)}

    def tried(self, environments: Mapping[str, Environment], templates: Sequence[str]) -> list[Tried]:
        """Return what was tried otherwise, the likeliest first; it ends at what explains the difference."""
        found: list[Tried] = []
        for suspect in [*of_texts(self._recipe, templates), *of_pixels(self._recipe)]:
            self._notify(f"trying {suspect.name}: {suspect.detail}")
            try:
                recipe = self._recipe.model_copy(update=dict(suspect.changes))
                subject = self._embedded(recipe) if suspect.changes else self.subject
                theirs = self.accuracies(subject, suspect)
            except IcmBenchError as error:  # such as QuickGELU where the model has none
                self._notify(f"not tried: {error}")
                continue
            off = {name: abs(theirs[name] - of.published) for name, of in environments.items()}
            explains = all(off[name] <= of.tolerance for name, of in environments.items())
            found.append(Tried(suspect.name, suspect.detail, theirs, explains, fmean(off.values())))
            if explains:
                break
        return found

    def facts(self) -> dict[str, Any]:
        """Return what a bug report needs to say, in plain data."""
        packages = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
        return {
            "backbone": asdict(self.subject.facts),
            "prompts": list(self.subject.prompts),
            "dataset_fingerprint": self.subject.manifest.fingerprint,
            "images": self.images,
            "jpeg_draft": self._recipe.images.jpeg_draft,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "versions": {name: packages[name] for name in _PACKAGES if name in packages},
        }

    def _embedded(self, recipe: Recipe) -> Subject:
        run = prepare(recipe, self._storage, self._notify, held_out=False)
        (subject,) = run.subjects
        if subject.facts.texts != "any":
            raise IcmBenchError(f"'{subject.facts.label}' has no texts, so it has no zero-shot to be checked.")
        embed_views(run, subject, subject.views)
        return subject.with_unreadable(self._storage)

    def _readable(self, subject: Subject) -> np.ndarray:
        rejected = store.rejected(self._storage, subject.views)
        ids = subject.manifest.table["image_id"].to_pylist()
        return np.array([row for row, image_id in enumerate(ids) if image_id not in rejected], dtype=np.int64)


def _of(published: "Sequence[PublishedNumber]", dataset: str, weights: str = "") -> "list[PublishedNumber]":
    """Return the zero-shot accuracies on whole environments of a data set that may be gates, of some weights or all."""
    facts = CATALOG.get(dataset)
    folders = {dataset.lower(), facts.folder.lower() if facts else ""}
    gates = [one for one in published if one.method == "zero_shot" and one.split == "full" and one.context is None]
    of_set = [one for one in gates if one.dataset in folders and one.accuracy is not None]
    plain = weights.replace("-quickgelu", "")
    return [one for one in of_set if not weights or one.weights.replace("-quickgelu", "") == plain]


def _comparable(published: "Sequence[PublishedNumber]", subject: Subject) -> "dict[str, list[PublishedNumber]]":
    """Return environment -> the published accuracies of the same weights, of which each must have one."""
    spec, name = subject.backbone, subject.manifest.name
    weights = " ".join(filter(None, [spec.name, spec.pretrained]))
    numbers = _of(published, name, weights)
    found = {env: [one for one in numbers if one.environment == env] for env in subject.manifest.environments}
    if missing := [env for env, of in found.items() if not of]:
        known = list(dict.fromkeys(one.weights for one in _of(published, name)))
        there = f"published are {some(known)}" if known else "none is published"
        raise IcmBenchError(
            f"--backbone: no zero-shot accuracy of '{weights}' on {name}, {missing[0]}, is published; {there}."
        )
    return found


def _first_suspect(tried: Sequence[Tried]) -> tuple[str, str]:
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


def _other_files(dataset: str, images: Mapping[str, int]) -> str:
    """Return in a sentence that the images are not those of the catalog; nothing where they are, or it has none."""
    facts = CATALOG.get(dataset)
    for name, count in images.items():
        expected = facts.environments.get(name, 0) if facts else 0
        if expected and abs(count - expected) > _SAME_FILES * expected:
            return f"{name} has {count:,} images, and the published numbers are of {expected:,}; get the whole set."
    return ""
