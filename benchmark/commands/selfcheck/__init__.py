"""`icm-bench selfcheck`: compare zero-shot accuracies of a published backbone with the published ones.

If they differ, changes of the setup ("suspects") are tried: `suspects.py` lists them.
"""

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
from benchmark.commands.preparing.prepare import notify_on_stderr, prepare, wait_for
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
# Packages whose versions are in the file for bug reports.
_PACKAGES = ("icm-bench", "torch", "open_clip_torch", "transformers", "timm", "pillow", "numpy", "ray")
_AS_PUBLISHED = Suspect("", "")
_COUNT_TOLERANCE = 0.05  # relative difference from the number of images in the catalog


@dataclass(frozen=True)
class Environment:
    """Zero-shot accuracy on one environment, in percent."""

    accuracy: float  # measured here
    published: float  # mean of the published accuracies
    tolerance: float  # maximum difference in points
    images: int  # number of readable images

    @property
    def passes(self) -> bool:
        """Whether the measured accuracy is within the tolerance."""
        return abs(self.accuracy - self.published) <= self.tolerance


@dataclass(frozen=True)
class Tried:
    """Accuracies after one change of the setup."""

    suspect: str  # changed part: "template", "mean and std" ...
    detail: str  # the change, in words
    accuracies: Mapping[str, float]  # environment -> accuracy in percent
    explains: bool  # whether all environments are within the tolerance
    distance: float  # mean distance to the published accuracies, in points


@dataclass(frozen=True)
class Selfcheck:
    """Result of a self-check."""

    verdict: str  # `pass`, `fail` or `not comparable`
    reason: str  # `fail`: the first suspect; `not comparable`: the cause; `pass`: empty
    detail: str  # the reason as a sentence
    dataset: str
    backbone: str
    environments: Mapping[str, Environment]
    tried: Sequence[Tried]  # changes that were tried after a failure
    facts: Mapping[str, Any]  # facts about backbone, prompts and machine, as plain data

    def text(self) -> str:
        """Return the result as text: a line per environment and a sentence."""
        lines = [
            f"{name:<16} {of.accuracy:6.2f} %  published {of.published:6.2f} +/- {of.tolerance:.2f}  "
            f"{'pass' if of.passes else 'FAIL'}  ({of.images:,} images)"
            for name, of in self.environments.items()
        ]
        return "\n".join([*lines, f"{self.verdict}: {self.detail}"])


def write_selfcheck(found: Selfcheck, file: Path) -> None:
    """Write a self-check as JSON for bug reports: numbers, versions and settings, without paths."""
    Storage(str(file.absolute().parent)).write_bytes(file.name, (json.dumps(asdict(found), indent=2) + "\n").encode())


def checked_recipe(
    dataset: str, weights: str, published: "Sequence[PublishedNumber]", overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe of a self-check: one data set, one backbone, the published template, no intervention.

    Args:
        dataset: name in the catalog.
        weights: published name of the backbone and its pretrained tag: "ViT-B-32 openai".
        published: published accuracies.
        overrides: dotted key -> value, as for `load_recipe`. Default: none.
    """
    name, _, tag = weights.partition(" ")
    stated = [one.template for one in _gates(published, dataset, weights) if one.template.count("{}") == 1]
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
    """Return the published accuracies in a CSV file; None means the packaged file."""
    from reports.analysis.published_checks import parse, read_published

    if file is None:
        return read_published()
    try:
        with opened(file, "--published:", "name a CSV file in UTF-8") as stream:
            return parse(stream.read().decode(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise IcmBenchError(f"--published: {file} cannot be read ({error}); name a CSV file in UTF-8.") from error


def selfcheck(recipe: Recipe, published: "Sequence[PublishedNumber]") -> Selfcheck:
    """Compare zero-shot accuracies of one backbone on one data set with published ones, in the usual pipeline.

    If they differ, changes of the setup are tried one by one. The first suspect is the change that brings all
    environments within the tolerance. If there is none, the message names the change that comes nearest.

    Args:
        recipe: recipe with one data set and one backbone; only original images are embedded.
        published: published accuracies.

    Raises:
        IcmBenchError: data set or backbone cannot be loaded, or no accuracy is published for them.
    """
    from reports.analysis.published_checks import accuracies, tolerance

    storage = open_store(recipe)
    with connected():
        check = _Check(recipe, storage)
        name, tried = check.subject.manifest.name, list[Tried]()
        ours = check.accuracies(check.subject)
        sources = _comparable(published, check.subject)
        environments = {
            e: Environment(accuracy, fmean(accuracies(sources[e])), tolerance(sources[e]), check.images[e])
            for e, accuracy in ours.items()
        }
        verdict, reason, detail = PASS, "", "all environments are within the tolerance."
        if problem := _count_problem(name, check.images):
            verdict, reason, detail = NOT_COMPARABLE, "images", problem
        elif not all(of.passes for of in environments.values()):
            tried = check.tried(environments, [one.template for one in published if one.template])
            verdict, (reason, detail) = FAIL, _first_suspect(tried)
    label = check.subject.facts.label
    return Selfcheck(verdict, reason, detail, name, label, environments, tuple(tried), check.facts())


class _Check:
    """Measures zero-shot accuracies on one data set under one backbone, as published and after changes of the setup."""

    def __init__(self, recipe: Recipe, storage: Storage) -> None:
        self._recipe, self._storage = recipe, storage
        self.subject = self._embedded(recipe)
        self._recipe = recipe.at_precision(self.subject.facts.precision)
        index = self.subject.manifest.environment_index[self._readable(self.subject)]
        names = self.subject.manifest.environments
        self.images = {name: int((index == i).sum()) for i, name in enumerate(names)}

    def accuracies(self, subject: Subject, otherwise: Suspect = _AS_PUBLISHED) -> dict[str, float]:
        """Return the zero-shot accuracy on each environment, in percent, after the change `otherwise`."""
        templates = otherwise.templates or subject.prompts
        manifest, facts = subject.manifest, subject.facts
        names = [otherwise.rename(name) for name in manifest.prompt_names]
        job = TextJob(subject.backbone, facts, [names], templates)
        wait_for(begin_texts(self._storage, job, self._recipe.run.device))
        text = read_texts(self._storage, text_file(facts, names, templates)).astype(np.float64)
        rows = self._readable(subject)
        ids = [manifest.table["image_id"][int(row)].as_py() for row in rows]
        chosen = next(one for one in subject.views if one.label == (otherwise.view or ORIGINAL))
        z = store.read(self._storage, chosen, ids).astype(np.float64)
        right = (z @ text.T).argmax(axis=1) == manifest.table["label"].to_numpy()[rows]  # lengths of z change no argmax
        index = manifest.environment_index[rows]
        return {name: 100 * float(right[index == i].mean()) for i, name in enumerate(manifest.environments)}

    def tried(self, environments: Mapping[str, Environment], templates: Sequence[str]) -> list[Tried]:
        """Try changes, the likeliest first, until one explains the difference; return all that were tried."""
        found: list[Tried] = []
        for suspect in [*of_texts(self._recipe, templates), *of_pixels(self._recipe)]:
            notify_on_stderr(f"trying {suspect.name}: {suspect.detail}")
            try:
                recipe = self._recipe.model_copy(update=dict(suspect.changes))
                subject = self._embedded(recipe) if suspect.changes else self.subject
                changed = self.accuracies(subject, suspect)
            except IcmBenchError as error:  # such as QuickGELU for a model without it
                notify_on_stderr(f"not tried: {error}")
                continue
            distances = {name: abs(changed[name] - of.published) for name, of in environments.items()}
            explains = all(distances[name] <= of.tolerance for name, of in environments.items())
            found.append(Tried(suspect.name, suspect.detail, changed, explains, fmean(distances.values())))
            if explains:
                break
        return found

    def facts(self) -> dict[str, Any]:
        """Return facts for a bug report, as plain data."""
        packages = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
        return {
            "backbone": asdict(self.subject.facts),
            "prompts": list(self.subject.prompts),
            "dataset_fingerprint": self.subject.manifest.fingerprint,
            "images": self.images,
            "decoding": asdict(self.subject.decoding),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "versions": {name: packages[name] for name in _PACKAGES if name in packages},
        }

    def _embedded(self, recipe: Recipe) -> Subject:
        run = prepare(recipe, self._storage, notify_on_stderr, held_out=False)
        (subject,) = run.subjects
        if subject.facts.texts != "any":
            raise IcmBenchError(
                f"'{subject.facts.label}' has no text tower, so there is no zero-shot accuracy to check."
            )
        embed_views(run, subject, subject.views)
        return subject.with_unreadable(self._storage)

    def _readable(self, subject: Subject) -> np.ndarray:
        rejected = store.rejected(self._storage, subject.views)
        ids = subject.manifest.table["image_id"].to_pylist()
        return np.array([row for row, image_id in enumerate(ids) if image_id not in rejected], dtype=np.int64)


def _gates(published: "Sequence[PublishedNumber]", dataset: str, weights: str = "") -> "list[PublishedNumber]":
    """Return published zero-shot accuracies on whole environments of a data set, only for `weights` if given."""
    facts = CATALOG.get(dataset)
    folders = {dataset.lower(), facts.folder.lower() if facts else ""}
    gates = [one for one in published if one.method == "zero_shot" and one.split == "full" and one.context is None]
    of_set = [one for one in gates if one.dataset in folders and one.accuracy is not None]
    plain = weights.replace("-quickgelu", "")
    return [one for one in of_set if not weights or one.weights.replace("-quickgelu", "") == plain]


def _comparable(published: "Sequence[PublishedNumber]", subject: Subject) -> "dict[str, list[PublishedNumber]]":
    """Return, for each environment, the accuracies published for the same weights; each must have at least one."""
    spec, name = subject.backbone, subject.manifest.name
    weights = " ".join(filter(None, [spec.name, spec.pretrained]))
    numbers = _gates(published, name, weights)
    found = {env: [one for one in numbers if one.environment == env] for env in subject.manifest.environments}
    if missing := [env for env, of in found.items() if not of]:
        known = list(dict.fromkeys(one.weights for one in _gates(published, name)))
        there = f"published are {some(known)}" if known else "none is published"
        raise IcmBenchError(f"--backbone: no zero-shot accuracy of '{weights}' on {name}, {missing[0]}; {there}.")
    return found


def _first_suspect(tried: Sequence[Tried]) -> tuple[str, str]:
    """Return the name of the first suspect, and a sentence on the change that comes nearest.

    The name is `NO_SUSPECT` if no change explains the difference.
    """
    if not tried:
        return NO_SUSPECT, "there was no change to try."
    nearest = min(tried, key=lambda one: (not one.explains, one.distance))
    change = f"{nearest.suspect}. With {nearest.detail}"
    if nearest.explains:
        return nearest.suspect, f"first suspect: {change} all environments are within the tolerance."
    distance = f"{nearest.distance:.1f} points off on average"
    return NO_SUSPECT, f"no change explains the difference; nearest is {change} accuracies are still {distance}."


def _count_problem(dataset: str, images: Mapping[str, int]) -> str:
    """Return a sentence on the first environment whose number of images is not the catalog's, else empty text."""
    facts = CATALOG.get(dataset)
    for name, count in images.items():
        expected = facts.environments.get(name, 0) if facts else 0
        if expected and abs(count - expected) > _COUNT_TOLERANCE * expected:
            return f"{name} has {count:,} images, and the published accuracies are of {expected:,}; get the whole set."
    return ""
