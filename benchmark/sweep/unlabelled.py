"""Predictions and accuracy estimates for unlabelled images, and for labelled environments treated as unlabelled.

Each method is fitted on the in-splits of its sources. The out-splits of the sources select its point (lambda, rank,
setting). Target labels are only used to report the error of an estimate. `icm-bench unlabelled` uses this module; it
requires Ray.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import ray
from numpy.typing import NDArray

from benchmark.common.ray.cluster import gpu_count
from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.common.terminal.progress import Progress
from benchmark.method.arrays import Array, Labels, scaled
from benchmark.method.evaluation.checked import checked_basis
from benchmark.method.evaluation.classifier import Classifier, FitCache, ImageSet
from benchmark.method.evaluation.embedded import Embedded, Stacked
from benchmark.method.evaluation.estimates import confidence, share_above, threshold
from benchmark.method.evaluation.protocols import Holdout
from benchmark.method.evaluation.roles import Roles
from benchmark.method.evaluation.splits import IN_FOLDS, sampled
from benchmark.method.predictors.base import fitted_temperature
from benchmark.method.subspace import Moments, Projection
from benchmark.recipe.specs import RunSpec
from benchmark.sweep.batches import resources_of
from benchmark.sweep.evaluate import Inputs
from benchmark.sweep.inputs import Shared, fetched, inputs_of, share
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import Trial
from benchmark.sweep.tune import device_of

MAX_IMAGES = 20_000  # maximum per environment, evenly spaced: a share is then known within a third of a point
UNKNOWN = -1  # label of an image whose class is unknown


@dataclass(frozen=True)
class Answers:
    """Predictions of one method for one target environment, to which it was not fitted.

    Attributes:
        trial: position of the method's trial.
        environment: the target environment.
        labelled: whether labels of the target environment are known.
        source: accuracy on validation images of the sources, averaged over environments.
        validation_accuracy: accuracy on all validation images of the sources together.
        atc: accuracy on the target, estimated by average thresholded confidence.
        accuracy: accuracy on the target; NaN without labels.
        of_sources: predicted classes of the validation images, shape (m,).
        of_target: predicted classes of the target images, shape (k,).
    """

    trial: int
    environment: str
    labelled: bool
    source: float
    validation_accuracy: float
    atc: float
    accuracy: float
    of_sources: Labels
    of_target: Labels


def answers_of(
    storage: Storage, trials: Sequence[Trial], unlabelled: Mapping[str, Subject], options: RunSpec
) -> Iterator[Answers]:
    """Yield the predictions of the trials' methods in order of completion. Call it inside `connected`.

    Raises:
        DamagedError: embeddings, texts or moments are damaged.
    """
    shared = share(storage, trials, [*unlabelled.values()])
    given = ray.put((storage, list(trials), dict(unlabelled), shared))
    tasks, gpus = [], gpu_count()
    for number, trial in enumerate(trials):
        cpu, gpu = resources_of(trial, options, gpus).values()
        tasks.append(_answers.options(num_cpus=cpu, num_gpus=gpu).remote(given, number, gpu))
    progress = Progress("estimating", len(tasks), "methods")
    while tasks:
        (done,), tasks = ray.wait(tasks)
        yield from ray.get(done)
        progress.update()
    progress.close()


@dataclass(frozen=True)
class _Asked:
    """A method and its inputs.

    Attributes:
        number: position of the method's trial.
        inputs: inputs of the trial, with unlabelled images as further environments.
    """

    number: int
    trial: Trial
    inputs: Inputs
    device: str


@remote()
def _answers(
    given: tuple[Storage, list[Trial], Mapping[str, Subject], Shared], number: int, gpus: float
) -> list[Answers]:
    storage, trials, unlabelled, shared = given
    trial, device = trials[number], device_of(gpus)
    inputs = inputs_of(storage, trial, partial(fetched, shared), device)
    known = range(len(inputs.data.environments))
    if other := unlabelled.get(trial.subject.key):
        inputs = replace(inputs, data=beside(inputs.data, fetched(shared, other.key)[0]))
    asked = _Asked(number, trial, inputs, device)
    return [
        _answer(asked, Holdout(name, tuple(source for source in known if source != e), ()))
        for e, name in enumerate(inputs.data.environments)
    ]


def beside(data: Embedded, other: Embedded) -> Embedded:
    """Join labelled and unlabelled images; environments of unlabelled images get the last indices."""
    known, extra = len(data.environments), len(other.z)
    return replace(
        data,
        z=cast("NDArray[np.float32]", Stacked((data.z, other.z))),
        environment=np.concatenate([data.environment, known + other.environment]),
        label=np.concatenate([data.label, np.full(extra, UNKNOWN)]),
        side={split: np.concatenate([side, np.full(extra, UNKNOWN)]) for split, side in data.side.items()},
        environments=[*data.environments, *other.environments],
        group=None if data.group is None else np.concatenate([data.group, np.full(extra, UNKNOWN)]),
    )


@dataclass(frozen=True)
class _Best:
    """The point with the best source accuracy so far, with scores of source and target images."""

    source: float
    of_sources: list[Array]
    of_target: Array


def _answer(asked: _Asked, holdout: Holdout) -> Answers:
    """Fit a method on the sources of a holdout and return its predictions for the held-out environment."""
    data, spec, predictor = asked.inputs.data, asked.trial.spec, asked.trial.spec.predictor
    roles = Roles(data, spec.split, None)
    train = roles.of_sources(holdout, holdout.sources, roles.turn.validation.learned)
    if predictor.samples and spec.selection_images:
        train = sampled(train, data.environment, data.label, IN_FOLDS * spec.selection_images, spec.seed)
    sides = roles.turn.validation.sides
    validation = [_images(data, roles.of_sources(holdout, (s,), sides), s) for s in holdout.sources]
    place = data.environments.index(holdout.name)
    target = _images(data, data.environment == place, place)
    best, known = None, FitCache()
    for lambda_ in spec.lambdas:  # in a tie the first one is kept, which shrinks least
        for setting in spec.settings:
            if len(holdout.sources) >= setting.min_sources:
                projection = setting.at(lambda_=lambda_, seed=spec.seed)
                classifier = _classifier(asked, holdout, projection, train, target, known)
                best = _best_of(classifier, validation, target, best)
    if best is None:
        raise ValueError(f"{asked.trial.label}: it has too few sources without {holdout.name}")
    labels = np.concatenate([images.labels for images in validation])
    scores = np.concatenate([_of_possible(i, s) for i, s in zip(validation, best.of_sources, strict=True)])
    of_target = _of_possible(target, best.of_target)
    temperature = fitted_temperature(scores, labels) if predictor.has_likelihood else None
    of_sources, answered = scores.argmax(axis=1), of_target.argmax(axis=1)
    validation_accuracy = float(np.mean(of_sources == labels))
    minimum = threshold(confidence(scores, temperature), validation_accuracy)
    labelled = bool((target.labels != UNKNOWN).all())
    return Answers(
        trial=asked.number,
        environment=holdout.name,
        labelled=labelled,
        source=best.source,
        validation_accuracy=validation_accuracy,
        atc=share_above(confidence(of_target, temperature), minimum),
        accuracy=float(np.mean(answered == target.labels)) if labelled else float("nan"),
        of_sources=of_sources,
        of_target=answered,
    )


def _images(data: Embedded, which: NDArray[np.bool_], environment: int) -> ImageSet:
    """Return the images in a mask, at most `MAX_IMAGES` evenly spaced ones, with the classes possible there."""
    rows: Labels = np.flatnonzero(which)
    if len(rows) > MAX_IMAGES:
        rows = rows[(np.arange(MAX_IMAGES) * len(rows)) // MAX_IMAGES]
    return ImageSet(rows, data.label[rows], data.candidates.get(environment))


def _classifier(
    asked: _Asked, holdout: Holdout, projection: Projection, train: NDArray[np.bool_], target: ImageSet, known: FitCache
) -> Classifier:
    """Fit a projection to the sources of a holdout, and return the predictor in its coordinates."""
    spec, data = asked.trial.spec, asked.inputs.data
    weights = asked.trial.subject.weights_of(spec.intervention_set)
    moments = asked.inputs.cells.sources({s: data.environments[s] for s in holdout.sources}, weights)
    if projection.looks_at_target_images:
        seen = Moments.of(scaled(data.z[target.rows], spec.normalize))
        moments = moments.with_targets({holdout.name: seen})
    basis = checked_basis(projection.fit(moments), projection.name, data.z.shape[1])
    c_d = moments.c_d() if spec.predictor.uses_c_d else None
    settings = spec.normalize, spec.seed, asked.device, known, c_d
    return Classifier(spec.predictor, spec.ranks, data, basis, train, *settings)


def _best_of(classifier: Classifier, sources: Sequence[ImageSet], target: ImageSet, best: _Best | None) -> _Best | None:
    """Return the point with the best source accuracy among all points of a fit and the previous best point."""
    for *of_sources, of_target in classifier.scores([*sources, target]):
        pairs = zip(sources, of_sources, strict=True)
        shares = [np.mean(_of_possible(i, s).argmax(axis=1) == i.labels) for i, s in pairs if len(i)]
        source = float(np.mean(shares))
        if best is None or source > best.source:  # copied, since a predictor may reuse its arrays at the next point
            best = _Best(source, [np.array(s) for s in of_sources], np.array(of_target))
    return best


def _of_possible(images: ImageSet, scores: Array) -> Array:
    """Return scores of all classes, with minus infinity for classes that are impossible for these images."""
    if images.classes is None:
        return scores
    possible = np.full_like(scores, -np.inf)
    possible[:, images.classes] = scores[:, images.classes]
    return possible
