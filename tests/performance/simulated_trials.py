"""Costs of trials on this machine, measured with small simulated embeddings."""

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmark.method.evaluation.cells import cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.evaluation import Evaluation, FitSettings, Method
from benchmark.method.evaluation.splits import sides
from benchmark.method.prompts import Names
from benchmark.store.costs import Cost
from benchmark.sweep.trials import TrialSpec
from benchmark.sweep.work import Size, kind_of, work_of

IMAGES = 400  # maximum number of images per environment
_MIN_IMAGES = 60  # minimum number of images per environment, so that no side of a split is empty
_MAX_ENVIRONMENTS = 4
_VIEW = "simulated"


def measured(wanted: Iterable[tuple[TrialSpec, Size]], seconds: float, images: int = IMAGES) -> list[Cost]:
    """Run small versions of planned trials until `seconds` have passed, and return their costs.

    Trials run on simulated embeddings of the planned width, with fewer images, environments, classes and lambdas.
    Trials that need a text encoder or prompts are left out.
    """
    ended, costs, data = time.monotonic() + seconds, [], {}
    for planned, planned_size in wanted:
        spec, size = _smaller(planned, planned_size, images)
        if time.monotonic() > ended:
            break
        asks_for_prompts = spec.projection.prompts(Names(("a", "b"), ("c", "d"), ("a photo of a {}.",)))
        if spec.predictor.uses_text_tower or asks_for_prompts:
            continue
        key = (str(size), spec.split)
        if key not in data:
            data[key] = _simulated(spec, size)
        start = time.process_time()  # CPU time of all threads, since a trial in a sweep has one core
        _run(spec, data[key])
        costs.append(Cost(kind_of(spec), work_of(spec, size), time.process_time() - start))
    return costs


def _smaller(spec: TrialSpec, size: Size, images: int) -> tuple[TrialSpec, Size]:
    """Return a smaller trial of the same kind, and its size."""
    first = list(size.images.items())[:_MAX_ENVIRONMENTS]
    fewer = {name: max(_MIN_IMAGES, min(count, images)) for name, count in first}
    classes = min(size.classes, max(2, min(fewer.values()) // 4))
    lambdas = spec.lambdas[:1] or ((1.0,) if spec.space else ())
    chosen = spec.intervention_set.model_copy(update={"draws": 1}) if spec.intervention_set else None
    fold = 0 if spec.folds else None
    return replace(spec, lambdas=lambdas, intervention_set=chosen, space={}, fold=fold), Size(fewer, classes, size.dim)


def _simulated(spec: TrialSpec, size: Size) -> Embedded:
    """Return simulated embeddings with classes, environments and one view."""
    rng, dim = np.random.default_rng(0), size.dim
    environment = np.repeat(np.arange(len(size.images)), list(size.images.values()))
    label = np.concatenate([np.arange(count) * size.classes // count for count in size.images.values()])
    spectrum = np.geomspace(1, 0.1, dim)
    classes = 0.5 * rng.standard_normal((size.classes, dim))
    shifts = 0.5 * rng.standard_normal((len(size.images), dim))
    noise = rng.standard_normal((len(label), dim))
    z = _unit((1.0 + classes[label] + shifts[environment] + noise) * spectrum)
    names = [f"class {c}" for c in range(size.classes)]
    side = sides(environment, None, spec.split, label >= (size.classes + 1) // 2)
    view = _unit(z + 0.02 * rng.standard_normal(z.shape) * spectrum)
    text = _unit(classes * spectrum)
    return Embedded(z, environment, label, {spec.split: side}, text, list(size.images), names, views=(view,))


def _unit(z: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True), dtype=np.float32)


def _run(spec: TrialSpec, data: Embedded) -> None:
    """Evaluate a trial as a sweep does, and discard the result."""
    cells = cells_of(data.layout(spec.split), data.z, {_VIEW: data.views[0]})
    settings = FitSettings(spec.split, spec.normalize, spec.fold, selection_images=spec.selection_images)
    evaluation = Evaluation(data, cells, settings)
    holdouts = spec.holdouts(data.environments)
    for setting in spec.settings:
        projections = [setting.at(lambda_=lambda_, seed=0) for lambda_ in spec.lambdas]
        methods = [Method(projection, spec.predictor, spec.ranks) for projection in projections]
        curves = evaluation.curves_of(methods, holdouts)
        if evaluation.samples(spec.predictor):
            evaluation.with_full_fits(methods, curves, holdouts)
