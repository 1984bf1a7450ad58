"""`icm-bench selfcheck`: zero-shot of one published backbone against its published accuracies."""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.commands.embed import embed_views
from benchmark.commands.preparing.prepare import Notify, Run, notify_on_stderr, prepare, wait_for
from benchmark.commands.selfcheck.findings import (
    FAIL,
    NOT_COMPARABLE,
    PASS,
    Environment,
    Selfcheck,
    Tried,
    first_suspect,
    other_files,
    tried_with,
)
from benchmark.commands.selfcheck.suspects import Suspect, of_pixels, of_texts
from benchmark.commands.stores import open_store
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.plain import opened
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG
from benchmark.embedding.texts import begin_texts
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import ORIGINAL
from benchmark.store.texts import read_texts, text_file
from benchmark.sweep.subject import Subject

if TYPE_CHECKING:
    from reports.analysis.published import PublishedNumber

_PACKAGES = ("icm-bench", "torch", "open_clip_torch", "transformers", "timm", "pillow", "numpy", "ray")


def checked_recipe(
    dataset: str,
    weights: str,
    published: "Sequence[PublishedNumber]",
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return the recipe of a self-check: one data set, one backbone, the template of the source, no intervention.

    Args:
        dataset: name in the catalog.
        weights: name of the backbone and its pretrained tag, as they are published: "ViT-B-32 openai".
        published: the numbers that it may be held against.
        overrides: as `load_recipe` takes them.

    Raises:
        IcmBenchError: a name or an override is not valid.
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
    """Return published accuracies: those of a CSV file, by default the package's.

    Raises:
        IcmBenchError: the file cannot be read, or a line is not valid.
    """
    from reports.analysis.published import parse, read_published

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
    storage = open_store(recipe)
    with connected():
        check = _Check(recipe, storage, notify)
        ours = check.accuracies(check.subject.prompts)
        sources = _comparable(published, check.subject)
        environments = _environments(ours, sources, check.images)
        reason, detail, tried = "", "all environments are within the tolerance of what is published.", []
        verdict = PASS if all(of.passes for of in environments.values()) else FAIL
        if other := other_files(check.subject.manifest.name, check.images):
            verdict, reason, detail = NOT_COMPARABLE, "images", other
        elif verdict == FAIL:
            tried = check.tried(environments, [one.template for one in published if one.template])
            reason, detail = first_suspect(tried)
    label = check.subject.facts.label
    return Selfcheck(
        verdict, reason, detail, check.subject.manifest.name, label, environments, tuple(tried), check.facts()
    )


class _Check:
    """One data set under one backbone, and the same with one thing otherwise."""

    def __init__(self, recipe: Recipe, storage: Storage, notify: Notify) -> None:
        self._recipe, self._storage, self._notify = recipe, storage, notify
        self.subject = self._embedded(recipe)
        index = self.subject.manifest.environment_index[self._readable(self.subject)]
        names = self.subject.manifest.environments
        self.images = {name: int((index == i).sum()) for i, name in enumerate(names)}

    def accuracies(
        self,
        templates: Sequence[str],
        rename: Callable[[str], str] = str,
        view: str = ORIGINAL,
        subject: Subject | None = None,
    ) -> dict[str, float]:
        """Return environment -> zero-shot accuracy in percent."""
        subject = subject or self.subject
        manifest, facts = subject.manifest, subject.facts
        names = [rename(name) for name in manifest.prompt_names]
        wait_for(begin_texts(self._storage, subject.backbone, facts, [names], templates))
        text = read_texts(self._storage, text_file(facts, names, templates)).astype(np.float64)
        rows = self._readable(subject)
        ids = [manifest.table["image_id"][int(row)].as_py() for row in rows]
        chosen = next(one for one in subject.views if one.label == view)
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
                found.append(tried_with(suspect, self._with(suspect), environments))
            except IcmBenchError as error:  # such as QuickGELU where the model has none
                self._notify(f"not tried: {error}")
                continue
            if found[-1].explains:
                break
        return found

    def facts(self) -> dict[str, Any]:
        """Return what a bug report needs to say, in plain data."""
        facts, packages = (
            asdict(self.subject.facts),
            {d.metadata["Name"].lower(): d.version for d in metadata.distributions()},
        )
        return {
            "backbone": facts,
            "prompts": list(self.subject.prompts),
            "dataset_fingerprint": self.subject.manifest.fingerprint,
            "images": self.images,
            "jpeg_draft": self._recipe.images.jpeg_draft,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "versions": {name: packages[name] for name in _PACKAGES if name in packages},
        }

    def _with(self, suspect: Suspect) -> dict[str, float]:
        """Return the accuracies with one thing otherwise."""
        recipe = self._recipe.model_copy(update=dict(suspect.changes))
        subject = self.subject if not suspect.changes else self._embedded(recipe)
        templates = suspect.templates or subject.prompts
        return self.accuracies(templates, suspect.rename, suspect.view or ORIGINAL, subject)

    def _embedded(self, recipe: Recipe) -> Subject:
        run: Run = prepare(recipe, self._storage, self._notify, held_out=False)
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
    """Return environment -> the published accuracies of the same weights.

    Raises:
        IcmBenchError: there is none for some environment; names what there is.
    """
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


def _environments(
    ours: Mapping[str, float], sources: "Mapping[str, Sequence[PublishedNumber]]", images: Mapping[str, int]
) -> dict[str, Environment]:
    from reports.analysis.against import accuracies, tolerance

    return {
        name: Environment(accuracy, fmean(accuracies(sources[name])), tolerance(sources[name]), images[name])
        for name, accuracy in ours.items()
    }
