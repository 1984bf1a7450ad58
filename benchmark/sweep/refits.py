"""Picked trials fitted again: what they predicted, and how well environments can be read before and after."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.common.cluster import connect, connected
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage import Storage
from benchmark.method.arrays import Array, Labels, scaled
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.splits import Split
from benchmark.method.subspace import Basis
from benchmark.method.subspace.diagnostics import Decodability, decodability
from benchmark.store.checked import DamagedError
from benchmark.store.details import Pick
from benchmark.sweep import inputs
from benchmark.sweep.answers import AnswersDifferError, answers_of
from benchmark.sweep.clusters import clustered
from benchmark.sweep.inputs import Arrays, Inputs, inputs_of
from benchmark.sweep.loading import load, load_view, sum_subject
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex
from benchmark.sweep.trials import Trial

MAX_IMAGES = 5_000  # of a map, and by which environments are read
FOLDS = 2  # of the cross-validation by which they are: with five, as `diagnose` has, it takes longer than the refits
# Arrays of the last subject of this process, and of what is tested with it.
_ARRAYS: dict[tuple[object, ...], tuple[Embedded, ImageIndex]] = {}
# The same of what is read from the plain space, which does not depend on any fit.
_READ: dict[tuple[object, ...], Decodability] = {}


@dataclass(frozen=True)
class Work:
    """One trial that is fitted again.

    Attributes:
        trial: the trial.
        picks: of its rows, whatever part asks for them; none twice, at least one.
        looked_at: whether environments are read from the space of each.
        mapped: whether its space is drawn.
        device: torch device for predictors that are trained on torch.
    """

    trial: Trial
    picks: tuple[Pick, ...]
    looked_at: tuple[bool, ...]
    mapped: tuple[bool, ...]
    device: str = "cpu"


@dataclass(frozen=True)
class Axes:
    """Images on two principal axes, before and after a projection.

    Attributes:
        rows: positions of the images, shape (m,).
        before: shape (m, 2).
        after: shape (m, 2).
    """

    rows: Labels
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class Refitted:
    """What one pick gave.

    Attributes:
        rows: positions of the tested images, in the order of the row, shape (n,).
        predicted: number of the predicted class of each, shape (n,).
        margins: best score minus the second, NaN where there is none, shape (n,).
        before, after: how well the environment is read; None where nobody asked, or there is but one.
        axes: None where nobody asked.
    """

    rows: Labels
    predicted: NDArray[np.int16]
    margins: NDArray[np.float32]
    before: Decodability | None = None
    after: Decodability | None = None
    axes: Axes | None = None


def refit_all(
    storage: Storage, works: Sequence[Work], splits: Mapping[str, tuple[Split, ...]]
) -> Iterator[tuple[str, list[Refitted] | AnswersDifferError]]:
    """Yield (id of a trial, what `refit` does for it, or the error that its answers differ): others go on.

    Args:
        storage: see `refit`.
        works: next to each other those that share most.
        splits: see `refit`.
    """
    for work in works:
        try:
            yield work.trial.id, refit(storage, work, splits)
        except AnswersDifferError as error:
            yield work.trial.id, error


def refit(storage: Storage, work: Work, splits: Mapping[str, tuple[Split, ...]]) -> list[Refitted]:
    """Return what each pick of a trial gives.

    Args:
        storage: with embeddings, texts and moments; Ray sums moments that are not there.
        work: what is fitted again.
        splits: key of a subject -> splits that any trial needs of it, so that it is read once.

    Raises:
        AnswersDifferError: the answers are not those of a row; names the trial.
        DamagedError: a file of the store is not what was written.
    """
    trial = work.trial
    given = _inputs(storage, trial, splits, work.device)
    answers = answers_of(trial, given, work.picks, work.device)
    refitted = []
    for pick, answer, looks, draws in zip(work.picks, answers, work.looked_at, work.mapped, strict=True):
        predicted = answer.classes.astype(np.int16)
        if (predicted != answer.classes).any():
            raise IcmBenchError(f"{trial.subject.key} has more classes than fit into 16 bits; leave `details` out.")
        before = after = axes = None
        if looks or draws:
            space = _Space.of(trial, given.data, answer.basis, pick.rank)
            before, after = space.read() if looks else (None, None)
            axes = Axes(space.rows, principal_axes(space.z), principal_axes(space.mapped)) if draws else None
        refitted.append(Refitted(answer.rows, predicted, answer.margins, before, after, axes))
    return refitted


def forget() -> None:
    """Let go of what this process holds for the next trial."""
    _ARRAYS.clear()
    _READ.clear()
    inputs.forget()


def _inputs(storage: Storage, trial: Trial, splits: Mapping[str, tuple[Split, ...]], device: str) -> Inputs:
    needed = (trial.subject, *trial.variants, *([trial.lender] if trial.lender else []))
    keys = {s.key: (storage.path(""), s.key, splits[s.key]) for s in needed}
    for key in set(_ARRAYS) - set(keys.values()):
        del _ARRAYS[key]  # the embeddings of one subject are as much as a process may hold

    def of_subject(subject: Subject) -> tuple[Embedded, ImageIndex]:
        key = keys[subject.key]
        if key not in _ARRAYS:
            _READ.clear()
            _ARRAYS[key] = load._function(storage, subject, splits[subject.key])
        return _ARRAYS[key]

    arrays = Arrays(of_subject, lambda view, subject: load_view._function(storage, view, of_subject(subject)[1]))
    try:
        return inputs_of(storage, trial, arrays, device)
    except DamagedError:
        raise
    except IcmBenchError:  # moments are not there: they were damaged, or removed
        spec = trial.spec
        with connected():
            connect()
            for subject in (trial.subject, *([trial.lender] if trial.lender else [])):
                images = of_subject(subject)[1]
                if trial.clusters and subject is trial.subject:
                    images = clustered(storage, trial.clusters, *of_subject(subject))[1]
                sum_subject(storage, subject, images, [spec.split], [spec.normalize], [spec.intervention_set])
        return inputs_of(storage, trial, arrays, device)


@dataclass(frozen=True)
class _Space:
    """Some images before and after a projection.

    Attributes:
        rows: positions of the images, shape (m,).
        environment: index of the environment of each, shape (m,).
        z: embeddings as the projection sees them, shape (m, D).
        mapped: what it leaves of them, shape (m, rank).
        turned: whether it only turns them.
        key: what `z` depends on.
    """

    rows: Labels
    environment: Labels
    z: Array
    mapped: Array
    turned: bool
    key: tuple[object, ...]

    @classmethod
    def of(cls, trial: Trial, data: Embedded, basis: Basis, rank: int) -> "_Space":
        rows = sample(data.environment)
        z = scaled(data.z[rows], trial.spec.normalize)
        key = trial.subject.key, trial.clusters, tuple(trial.environments), trial.spec.normalize
        turned = rank == z.shape[1] and basis.is_rotation
        return cls(rows, data.environment[rows], z, basis.of_images(z)[:, :rank], turned, key)

    def read(self) -> tuple[Decodability | None, Decodability | None]:
        """Return how well environments are read before and after; None where there are not two with images enough."""
        enough = np.bincount(self.environment)[self.environment] >= FOLDS
        environment = self.environment[enough]
        if len(np.unique(environment)) < 2:
            return None, None
        if self.key not in _READ:
            _READ[self.key] = decodability(self.z[enough], environment, folds=FOLDS)
        before = _READ[self.key]
        return before, before if self.turned else decodability(self.mapped[enough], environment, folds=FOLDS)


def sample(environment: Labels) -> Labels:
    """Return up to `MAX_IMAGES` positions, ascending: of environments alike where there are more, drawn by a seed."""
    members = [np.flatnonzero(environment == e) for e in np.unique(environment)]
    rng, left, drawn = np.random.default_rng(0), MAX_IMAGES, []
    for number, rows in enumerate(sorted(members, key=len)):  # what small ones leave goes to the others
        drawn.append(rng.choice(rows, min(len(rows), left // (len(members) - number)), replace=False))
        left -= len(drawn[-1])
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)


def principal_axes(z: Array) -> NDArray[np.float32]:
    """Return images on their first two principal axes, shape (m, 2); zeros where there are fewer axes.

    The sign of an axis is such that its largest component is positive.
    """
    centred = z - z.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, np.argsort(values)[::-1][:2]]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    placed = np.zeros((len(z), 2), dtype=np.float32)
    placed[:, : axes.shape[1]] = centred @ axes
    return placed
