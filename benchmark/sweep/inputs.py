"""What a trial is evaluated on, put together from arrays and moments: in a worker of a sweep, or in any process."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmark.common.storage.files import Storage
from benchmark.method.arrays import Array, scale_of
from benchmark.method.evaluation.cells import Cells
from benchmark.method.evaluation.embedded import Embedded, shifted
from benchmark.method.evaluation.evaluation import Plain
from benchmark.method.evaluation.fits import turns_of
from benchmark.store.embeddings import View
from benchmark.sweep.clusters import clustered
from benchmark.sweep.loading import cells_for, lent_c_d, lent_views, text_tower
from benchmark.sweep.subject import Subject
from benchmark.sweep.summing import ImageIndex
from benchmark.sweep.trials import Trial

# What the trials of this process found in the plain space, for the next one that may share it, and for no other.
_PLAIN: dict[tuple[object, ...], Plain] = {}
# The moments of the last trial of this process, likewise, and of which images they are: reading them takes as long as
# small trials do.
_CELLS: dict[tuple[object, ...], tuple[tuple[object, ...], Cells]] = {}


@dataclass(frozen=True)
class Arrays:
    """Where the embeddings of a trial come from.

    Attributes:
        of_subject: a subject -> its arrays, and where its images lie.
        of_view: a view, and the subject whose it is -> its embeddings, shape (n, D).
    """

    of_subject: Callable[[Subject], tuple[Embedded, ImageIndex]]
    of_view: Callable[[View, Subject], NDArray[np.float32]]


@dataclass(frozen=True)
class Inputs:
    """What `evaluate` is given beside the trial.

    Attributes:
        data: the embeddings of its subject; of a protocol across data sets, those of the variants too.
        cells: the moments of the same embeddings.
        lent: C_d of the data set from which the trial borrows it, shape (D, D); None where it borrows nothing.
        plain: what other trials of this process found in the plain space.
    """

    data: Embedded
    cells: Cells
    lent: Array | None
    plain: Plain


def inputs_of(storage: Storage, trial: Trial, arrays: Arrays, device: str) -> Inputs:
    """Return what a trial is evaluated on.

    Args:
        storage: with the moments and texts.
        trial: the trial.
        arrays: where its embeddings come from.
        device: name of the torch device of a text side.

    Raises:
        DamagedError: moments or texts are not what was written.
    """
    spec, subject, lender = trial.spec, trial.subject, trial.lender
    data, images = arrays.of_subject(subject)
    if trial.clusters:
        data, images = clustered(storage, trial.clusters, data, images)
    if trial.variants:
        parts = [arrays.of_subject(variant)[0] for variant in trial.variants]
        data = shifted(data, dict(zip(trial.environments[1:], parts, strict=True)), tuple(trial.environments))
    if spec.predictor.uses_text_tower:
        data = replace(data, tower=text_tower(subject, device))
    if spec.predictor.uses_views:
        kinds = subject.drawn_from(spec.intervention_set)
        of_views = {view.directory: arrays.of_view(view, subject) for views in kinds for view in views}
        data = replace(data, views=lent_views(kinds, of_views, images, spec.split.seed))
    cells = _shared_cells(storage, trial, data, images)
    lent = None
    if lender and spec.intervention_set:
        of_lender = arrays.of_subject(lender)[1]
        lent = lent_c_d(storage, lender, of_lender, spec.intervention_set, spec.split, spec.normalize)
    return Inputs(data, cells, lent, _shared_plain(trial))


def forget() -> None:
    """Let go of what this process holds for the next trial."""
    _CELLS.clear()
    _PLAIN.clear()


def _shared_cells(storage: Storage, trial: Trial, data: Embedded, images: ImageIndex) -> Cells:
    """Return the moments of a trial: those of the last one in this process, where they are the same.

    Of the same images with another intervention set, what was made of the images alone is taken over.
    """
    spec, subject = trial.spec, trial.subject
    if trial.sums not in _CELLS:
        of_images = (images.original.directory, images.digest(spec.split), spec.fold, scale_of(spec.normalize))
        before = [cells for seen, cells in _CELLS.values() if seen == of_images]
        _CELLS.clear()
        turns = turns_of(spec.split, data.group is not None, spec.fold).values()
        setting = spec.intervention_set, spec.split, spec.normalize
        cells = cells_for(storage, subject, images, *setting, turns, spec.projection)
        cells = cells.weighted(subject.weights_of(spec.intervention_set))
        _CELLS[trial.sums] = of_images, cells.after(before[0]) if before else cells
    return _CELLS[trial.sums][1]


def _shared_plain(trial: Trial) -> Plain:
    """Return what trials like this one found in this process."""
    if trial.shares not in _PLAIN:
        _PLAIN.clear()
    return _PLAIN.setdefault(trial.shares, Plain())
