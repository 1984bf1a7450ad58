"""`icm-bench publish`: writes the results of a recipe as records that others can check."""

import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.gather import Gathered, gather
from benchmark.commands.preparing.records import only_record_of
from benchmark.common.errors import IcmBenchError, some
from benchmark.common.machine import processor
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.metrics import ACCURACY
from benchmark.method.evaluation.selection import KEY, RULES
from benchmark.recipe.published import without_paths
from benchmark.recipe.recipe import Recipe
from benchmark.results.answers import answered
from benchmark.results.checking import NO_VERDICT, judged_together, unsound_name
from benchmark.results.records import RELATIONSHIPS, Details, Published, Publisher, numbers_of, write
from benchmark.store.records import RunRecord, read_record
from benchmark.store.tested import read_images
from reports.analysis.findings import judged
from reports.analysis.methods import Method, plain_for
from reports.analysis.selections import Predicted, Selections
from reports.analysis.settings import Setting, by_setting

if TYPE_CHECKING:
    from benchmark.sweep.subject import Subject

# Packages whose versions a record has, besides that of icm-bench.
_PACKAGES = (
    "icm-bench", "numpy", "scipy", "scikit-learn", "pillow", "torch", "open_clip_torch", "timm", "transformers",
    "openvino",
)  # fmt: skip
Named = Callable[[str], pd.DataFrame]  # hash of a list of images -> their columns `sample` and `group`
_MODEL_ID = re.compile(r"(?!(?i:data|unknown)/)[A-Za-z0-9][\w.-]*(?<!\.)/[A-Za-z0-9][\w.-]*(?<!\.)", re.ASCII)
_ABSOLUTE = re.compile(r"[/~\\]|[A-Za-z][\w+.-]*:[/\\]")


def publish(recipe: Recipe, storage: Storage, about: Publisher, folder: Path) -> dict[str, list[str]]:
    """Write the records of a recipe into a results folder.

    Args:
        recipe: the recipe, which was run with the store.
        storage: the recipe's store.
        about: who publishes it.
        folder: the results folder.

    Returns:
        "records": paths of all its records inside the results folder, and "written": files that were new or changed.

    Raises:
        IcmBenchError: see `records_of` and `benchmark.results.records.write`.
    """
    published = records_of(recipe, storage, about)
    return {"records": [one.path for one in published], "written": write(Storage(str(folder)), published)}


def records_of(
    recipe: Recipe, storage: Storage, about: Publisher, subjects: "Sequence[Subject]" = ()
) -> list[Published]:
    """Return the records of a recipe from its rows: plain prediction of each predictor and all methods with a verdict.

    Nothing is fitted, and neither images nor a backbone are needed.

    Args:
        recipe: the recipe of the rows.
        storage: the recipe's store.
        about: who publishes it.
        subjects: subjects of the recipe, if they were prepared. Without them, the store must hold results for a single
            state of data and weights.

    Raises:
        IcmBenchError: the recipe was not run to its end with this store, its rows lack predictions, an encoder has
            random weights, or an encoder has no model id.
    """
    file = only_record_of(recipe, storage, subjects)
    run = read_record(storage, file)
    gathered = gather([(storage, run)])
    _check(recipe, run, gathered, about)
    metrics = {dataset.label: recipe.metric_of(dataset) for dataset in recipe.datasets}
    predicted, parts = Predicted(gathered.rows), by_setting(gathered.rows)
    named = cache(partial(named_images, storage))
    whole = {_whole(setting) for setting, _ in parts if setting.class_half == "harmonic"}
    shared = _of_run(run, gathered, PurePosixPath(file).stem)
    found: list[Published] = []
    for setting, rows in parts:
        if setting.class_half not in ("base", "new") or _whole(setting) not in whole:  # else their harmonic mean
            selections = Selections(rows, gathered.tested, predicted, metric=metrics.get(setting.dataset, ACCURACY))
            of_setting = _of_setting(shared, setting, selections)
            found += _records(of_setting, setting, selections, named, about)
    return judged_together(found)


def _check(recipe: Recipe, run: RunRecord, gathered: Gathered, about: Publisher) -> None:
    """Refuse unfinished runs, random weights, and a publisher who leaves something out."""
    if gathered.failed or gathered.conflicts or gathered.finished < run.planned:
        done = f"{gathered.finished} of {run.planned} trials of '{recipe.name}' have rows"
        raise IcmBenchError(f"{done}, and publish needs all; run the recipe to its end.")
    random = gathered.rows.loc[gathered.rows["random_weights"], "backbone"].unique()
    if len(random):
        raise IcmBenchError(f"'{random[0]}' is no result and is not published; remove it from the recipe's backbones.")
    if about.relationship not in RELATIONSHIPS:
        raise IcmBenchError(f"publish needs --relationship to the encoder, one of {', '.join(RELATIONSHIPS)}.")
    if not about.organization.strip():
        raise IcmBenchError("publish needs --organization NAME: who ran the evaluation.")
    labels = [str(label) for label in gathered.rows["backbone"].unique()]
    for label in about.model_ids:
        if label and label not in labels:
            raise IcmBenchError(f"--model-id '{label}=...': the recipe's encoders are {some(labels)}.")
    for label in labels:
        given = about.model_ids.get(label) or (about.model_ids.get("", "") if len(labels) == 1 else "")
        if not _MODEL_ID.fullmatch(given):
            example = f"--model-id '{label}=laion/CLIP-ViT-B-32-laion2B'"
            raise IcmBenchError(f"publish needs the id of '{label}' as developer/model, not '{given}': {example}.")


def _whole(setting: Setting) -> Setting:
    return replace(setting, class_half="all", prompts=(), rounding=None)


def _of_run(run: RunRecord, gathered: Gathered, publication: str) -> dict[str, Any]:
    """Return the fields of `Details` that all records of a run share."""
    content, shortened = without_paths(run.recipe)
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    machines = {cost["gpu"] or cost["machine"] for cost in gathered.costs if cost["device"]} - {""}
    return {
        "recipe_name": run.name, "recipe_hash": run.recipe_hash, "recipe": content, "shortened": shortened,
        "publication": publication, "versions": versions, "machine": sorted(machines) or [processor()],
    }  # fmt: skip


def _of_setting(shared: Mapping[str, Any], setting: Setting, selections: Selections) -> dict[str, Any]:
    """Return the fields of `Details` that all methods of a setting share."""
    specs = [BackboneSpec.model_validate(spec) for spec in shared["recipe"]["backbones"]]
    spec = max((s for s in specs if setting.backbone.startswith(s.label)), key=lambda s: len(s.label), default=None)
    is_open = spec and spec.family and not any(key.startswith("backbones") for key in shared["shortened"])
    same = ("dataset", "grouped", "random_weights", "precision", "protocol", "test_split", "class_half", "rounding")
    return {
        **shared, **{name: getattr(setting, name) for name in (*same, "folds")},
        "data_fingerprint": setting.dataset_fingerprint, "weights_fingerprint": setting.backbone_fingerprint,
        "encoder": setting.backbone, "engine": spec.engine if spec else "unknown",
        "availability": "open_weights" if is_open else "unknown",
        "metric": "accuracy" if selections.metric == ACCURACY else selections.metric.label,
        "prompts": list(setting.prompts), "classes": list(selections.rows["classes"].iloc[0]),
        "seeds": selections.seeds, "held_outs": selections.held_outs, "rule": selections.rule,
        "code_version": sorted(set(selections.rows["code_version"])),
    }  # fmt: skip


def _records(
    shared: Mapping[str, Any], setting: Setting, selections: Selections, named: Named, about: Publisher
) -> Iterator[Published]:
    """Yield the record of each published method of a setting; verdicts are still `NO_VERDICT`."""
    without = setting.class_half in ("new", "harmonic")  # of some classes there are no training images
    every = [method for method in selections.parts if method.is_plain]
    every += [method for method in judged(selections.parts) if not (without and method.learns_classes)]
    bound = setting.protocol_class.looks_at_target or RULES[selections.rule].looks_at_target
    known: dict[Method | None, tuple[str, pd.DataFrame]] = {}  # name of the record, and its answers
    for method in dict.fromkeys(every):  # plain prediction comes first
        if problem := unsound_name(method.label):
            raise IcmBenchError(f"The method {method.label!r:.80} {problem}; give it another name to publish it.")
        plain = None if method.is_plain else plain_for(method, selections.parts)
        why, of_plain = "", known.get(plain)
        if setting.protocol_class.looks_at_target:
            why = "the protocol uses labels of the held-out environment"
        elif selections.metric != ACCURACY:
            why = f"verdicts are about accuracy, and the metric of the data set is {selections.metric.title}"
        elif of_plain is None:
            why = "there is no plain prediction with this predictor"
        details = Details(
            **shared, looks_at_target=bound or method.looks_at_target_images, method=method.label,
            projection=method.projection, order=method.order, variant=method.variant, predictor=method.predictor,
            plain=of_plain and of_plain[0], why="" if method.is_plain else why,
            verdict="" if why or method.is_plain else NO_VERDICT,
        )  # fmt: skip
        answers = answers_of(selections, method, named)
        numbers = numbers_of(*answered([answers, of_plain[1]] if of_plain else [answers]))
        one = Published(details, about, numbers, answers)
        known[method] = PurePosixPath(one.path).stem, answers
        yield one


def answers_of(selections: Selections, method: Method, named: Named) -> pd.DataFrame:
    """Return the answers of a method under the rule of verdicts; `named` is `named_images` of the store.

    Raises:
        IcmBenchError: a test has no rows, or rows lack predictions.
    """
    rule, rows, parts = selections.rule, selections.rows, []
    names, dim = np.array([*rows["classes"].iloc[0]]), int(rows["dim"].iloc[0])
    present, picks = selections.pooled(method, rule), selections.picks(method, rule)
    if absent := [(e, s) for s in selections.seeds for e in selections.held_outs if (e, s) not in present]:
        where = f"held-out environment {absent[0][0]}, seed {absent[0][1]}"
        raise IcmBenchError(f"'{method.label}' has no answers for {where}; run the recipe to its end.")
    points = (picks[name].tolist() for name in (*KEY, "kept_plain", "rank", "lambda_"))
    for *key, kept_plain, rank, lambda_, halves in zip(*points, selections.kept(method, rule), strict=True):
        if not halves or any(one.images is None for one in halves):
            raise IcmBenchError(f"Rows of '{method.label}' lack predictions of each image; run the recipe again.")
        for one in halves:
            tested, images = selections.tested[one.tested], named(str(one.images))
            parts.append(images.iloc[tested.position].assign(
                **dict(zip(KEY, key, strict=True)), half=one.half, label=names[tested.label],
                predicted=names[one.classes], environment=np.array(tested.names)[tested.environment],
                kept_plain=kept_plain or method.is_plain_at(rank, lambda_, dim),
            ))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def named_images(storage: Storage, hash_: str) -> pd.DataFrame:
    """Return the columns `sample` and `group` of answers for the images in a list of the store."""
    if (table := read_images(storage, hash_)) is None:
        raise IcmBenchError(f"The store lacks the image list {hash_} that its rows name; run the recipe again.")
    names = sample_ids(*(table[name].to_pylist() for name in ("path", "image_id", "environment")))
    return pd.DataFrame({"sample": names, "group": [group or "" for group in table["group"].to_pylist()]})


def sample_ids(paths: Sequence[str], ids: Sequence[str], environments: Sequence[str]) -> list[str]:
    """Return the name of each image of a list: its path inside the data set; its id if the path is absolute.

    If two names are equal, as with several data sets, all begin with the environment, and equal ones get a number.
    """
    names = [id_ if not path or _ABSOLUTE.match(path) else path for path, id_ in zip(paths, ids, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{environment}/{name}" for environment, name in zip(environments, names, strict=True)]
    repeats = pd.Series(names).groupby(names).cumcount()
    return [f"{name}#{number + 1}" if number else name for name, number in zip(names, repeats, strict=True)]


def publisher(model_ids: Iterable[str], relationship: str | None, organization: str | None) -> Publisher:
    """Return the publisher that the command line names. Missing fields are empty, and `records_of` refuses them.

    Each of `model_ids` is developer/model or LABEL=developer/model.
    """
    given = (one.rpartition("=") for one in model_ids)
    named = {label: model_id for label, _, model_id in given}
    return Publisher(organization or "", relationship or "", named, int(time.time()))
