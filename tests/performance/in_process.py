"""Result rows without Ray and without a store: what a sweep does in a trial, on embeddings that are at hand.

For simulations and deals, of which there are thousands: the trials, fits and rows are the project's own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from benchmark.backbones.facts import BackboneFacts
from benchmark.common.storage.places import cache_dir
from benchmark.datasets.manifest import SCHEMA, Manifest
from benchmark.datasets.readers import open_reader
from benchmark.method.arrays import Array, Normalize, scaled
from benchmark.method.evaluation.cells import Cells, cells_of
from benchmark.method.evaluation.embedded import Embedded
from benchmark.method.evaluation.fits import parts_of, turns_of
from benchmark.method.evaluation.splits import Split
from benchmark.method.evaluation.tested import Tested
from benchmark.recipe.recipe import Recipe
from benchmark.store.embeddings import Decoding
from benchmark.store.rows import frame_of, schema
from benchmark.sweep.evaluate import Inputs, evaluate
from benchmark.sweep.subject import Subject, images_of
from benchmark.sweep.trials import Trial, trials_of
from reports.analysis.findings import ControlResult, Expected, comparisons, control_result
from reports.analysis.selections import Selections
from reports.analysis.settings import Options, by_setting


@dataclass(frozen=True)
class ImageRow:
    """One image as its manifest lists it: environment, class, name and group, None where there are no groups."""

    environment: str
    class_name: str
    name: str
    group: str | None = None


def subject_of(recipe: Recipe, name: str, rows: Sequence[ImageRow], facts: BackboneFacts) -> Subject:
    """Return a data set, of which no file is anywhere, under a backbone.

    Args:
        recipe: with one backbone.
        name: name of the data set.
        rows: its images, in the order of a manifest.
        facts: of the backbone.
    """
    classes = sorted({row.class_name for row in rows})
    table = pa.Table.from_pylist(
        [
            {
                **dict.fromkeys(("content", "image_id", "path", "file"), f"{r.environment}/{r.class_name}/{r.name}"),
                **{"environment": r.environment, "class_name": r.class_name, "group": r.group},
                **{"label": classes.index(r.class_name), "bytes": 0, "position": -1},
            }
            for r in rows
        ],
        schema=SCHEMA,
    )
    manifest = Manifest(name, open_reader(str(cache_dir()), "folder"), table)
    prompts = recipe.prompts.templates_for(name)
    subject = Subject(manifest, recipe.backbones[0], facts, recipe.interventions, Decoding(), (), prompts, texts="")
    return subject.with_kinds([None, *recipe.interventions.kinds])


@dataclass(frozen=True)
class Images:
    """A data set with the embeddings of all its views.

    Attributes:
        subject: the data set under its backbone.
        z: embeddings, shape (images, views, D), views in the subject's order.
        text: unit-length text embeddings of the classes, shape (classes, D).
    """

    subject: Subject
    z: NDArray[np.floating]
    text: NDArray[np.float32]
    _data: dict[Split, Embedded] = field(default_factory=dict, repr=False)
    _cells: dict[tuple[Split, Normalize], Cells] = field(default_factory=dict, repr=False)

    def data(self, split: Split) -> Embedded:
        """Return what `sweep.loading.load` does."""
        if split not in self._data:
            data = images_of(self.subject.manifest, [split])
            scale = self.subject.facts.logit_scale
            self._data[split] = replace(data, z=self.z[:, 0], text=self.text, logit_scale=scale)
        return self._data[split]

    def cells(self, split: Split, normalize: Normalize) -> Cells:
        """Return the moments of all images, and of all kinds of intervention."""
        if (split, normalize) not in self._cells:
            views = [scaled(self.z[:, i], normalize) for i in range(self.z.shape[1])]
            kinds = {view.label: z for view, z in zip(self.subject.views[1:], views[1:], strict=True)}
            self._cells[split, normalize] = cells_of(self.data(split).layout(split), views[0], kinds)
        return self._cells[split, normalize]

    def rows(self, trials: Iterable[Trial], lender: "Images | None" = None) -> tuple[pd.DataFrame, dict[str, Tested]]:
        """Return the rows of trials on this data set as `read_rows` does, and the tested images that they name.

        Args:
            trials: what is fitted and evaluated.
            lender: from which trials borrow C_d.
        """
        rows: list[dict[str, object]] = []
        tested: dict[str, Tested] = {}
        by_turn: dict[object, list[Trial]] = defaultdict(list)
        for trial in trials:
            by_turn[trial.spec.split, trial.spec.fold, trial.spec.normalize].append(trial)
        for of_turn in by_turn.values():
            spec = of_turn[0].spec
            data = self.data(spec.split)
            turns = turns_of(spec.split, data.group is not None, spec.fold).values()
            cells = self.cells(spec.split, spec.normalize).joined(parts_of(turns))
            for trial in of_turn:
                lent = lender.c_d(trial) if trial.lender and lender else None
                evaluated = evaluate(trial, Inputs(data, cells, lent))
                rows += [{**row, "trial_id": trial.label} for row in evaluated.rows]
                tested |= {one.hash: one for one in evaluated.tested}
        return frame_of(pa.Table.from_pylist(rows, schema=schema())), tested

    def c_d(self, trial: Trial) -> Array:
        """Return C_d over all images as a trial borrows it, see `sweep.loading.lent_c_d`."""
        chosen = trial.spec.intervention_set
        parts = [*self.cells(trial.spec.split, trial.spec.normalize).moments.values()]
        return sum(parts[1:], parts[0]).c_d(self.subject.weights_of(chosen))


def trials_on(recipe: Recipe, subjects: Sequence[Subject], predictor: str, held_out: str) -> list[Trial]:
    """Return the trials of a recipe on its first data set, for one predictor and one held-out environment.

    Args:
        recipe: what is asked for.
        subjects: of its data sets, in its order.
        predictor: as the recipe names it.
        held_out: name of the environment.
    """
    every = trials_of(recipe, subjects)
    first = [trial for trial in every if trial.subject.manifest.name == recipe.datasets[0].name]
    return [replace(t, spec=replace(t.spec, held_out=held_out)) for t in first if t.spec.predictor.name == predictor]


def found(rows: pd.DataFrame, tested: dict[str, Tested], expected: Expected) -> ControlResult:
    """Return what the report says that was found."""
    [(setting, part)] = by_setting(rows)
    one = control_result(comparisons(setting, Selections(part, tested), Options()).compared, expected)
    assert one is not None, "shrinkage was compared with the plain space"
    return one
