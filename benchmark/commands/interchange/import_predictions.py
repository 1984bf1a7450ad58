"""`icm-bench import`: predictions of methods that were trained elsewhere, as result rows beside those of a sweep."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmark.commands.interchange.prediction_files import TEST, WORDS, Predictions, TestImages, answers_of
from benchmark.commands.preparing.prepare import Run, check_embedded
from benchmark.commands.preparing.records import add_imported, swept
from benchmark.common.errors import IcmBenchError, nearest, some
from benchmark.common.plain import canonical_hash
from benchmark.method.evaluation.protocols import Holdout
from benchmark.method.evaluation.splits import Split, TestSplit
from benchmark.method.predictors import PREDICTORS
from benchmark.store import embeddings as store
from benchmark.store.rows import row_file, write_rows
from benchmark.store.tested import write_tested
from benchmark.sweep.evaluate import Evaluated
from benchmark.sweep.imported_predictions import Answered, ImportedTest, imported_rows
from benchmark.sweep.subject import Seen, seen
from benchmark.sweep.trials import Trial, trials_of

Key = tuple[Any, ...]  # values of `TEST`


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    file: str  # where the predictions stand
    predictions: int  # its lines
    methods: list[str]
    rows: int  # result rows that the file gives
    written: int  # of these, that the store did not have
    replaced: int  # tests whose earlier answers of the same method were replaced


def import_predictions(run: Run, predictions: Predictions) -> Imported:
    """Write predictions as result rows and name them in the record of the run.

    All lines of a method in one test are imported together, in place of what was imported of it there before. Lines
    that do not match the recipe of the run and its data are refused, with file, row and remedy.
    """
    swept(run.recipe, run.storage, run.subjects)
    for subject in run.subjects:
        check_embedded(run.storage, subject)  # only then is it known which images cannot be read
    matching = _Matching(run, predictions)
    evaluated = dict(matching.rows())  # all of it is looked at before any of it is written
    ids = {}  # of each test the hash of all that its rows say
    for name, of_test in evaluated.items():
        said = [{k: str(v) for k, v in row.items() if k != "code_version"} for row in of_test.rows]
        ids[name] = canonical_hash(["imported", said])[:32]
    lacking = [name for name, id_ in ids.items() if not run.storage.exists(row_file(id_))]
    for name in evaluated:
        for tested in evaluated[name].tested:
            write_tested(run.storage, tested)
        if name in lacking:
            write_rows(run.storage, ids[name], evaluated[name].rows)
    gone = add_imported(run.recipe, run.storage, run.subjects, ids)
    for id_ in gone:
        run.storage.delete(row_file(id_))
    return Imported(
        file=str(predictions.file),
        predictions=len(predictions.lines),
        methods=sorted(predictions.lines["method"].unique().tolist()),
        rows=sum(len(of_test.rows) for of_test in evaluated.values()),
        written=sum(len(evaluated[name].rows) for name in lacking),
        replaced=len(gone),
    )


class _Matching:
    """Holds the lines of a file against the tests and images of a recipe."""

    def __init__(self, run: Run, predictions: Predictions) -> None:
        self._run, self._predictions = run, predictions
        self._unreadable = {
            subject.key: frozenset(store.rejected(run.storage, subject.views)) for subject in run.subjects
        }

    @cached_property
    def tests(self) -> dict[Key, tuple[Trial, Holdout, TestSplit]]:
        """The tests of the recipe: any trial with it, what is held out, and which images of it are tested."""
        tests: dict[Key, tuple[Trial, Holdout, TestSplit]] = {}
        for trial in trials_of(self._run.recipe, self._run.subjects):
            spec, subject = trial.spec, trial.subject
            if subject.clusters:
                raise IcmBenchError(
                    f"{subject.manifest.name} has clusters for environments, of which a method that was trained "
                    f"elsewhere knows nothing; import into a recipe without `environments`."
                )
            names = subject.manifest.name, subject.facts.label, spec.protocol.name
            for turn, holdout in product(spec.turns, trial.holdouts):
                for split in dict.fromkeys(test.split for test in holdout.tests):
                    key = (*names, holdout.name, split, spec.seed, -1 if turn.fold is None else turn.fold)
                    tests.setdefault(key, (replace(trial, spec=turn), holdout, split))
        return tests

    def rows(self) -> Iterator[tuple[str, Evaluated]]:
        """Yield (test and method as text, its rows), in the order of the file."""
        lines = self._with_tests(self._predictions.lines)
        known: dict[tuple[str, bool, Split], Seen] = {}  # what a trial's protocol sees, without unreadable images
        for row, name in lines["method"].drop_duplicates().items():
            if name in PREDICTORS.names() or not name.isprintable() or name != name.strip():
                raise self._predictions.refused(
                    int(str(row)),
                    f"the method {name!r} is called like a predictor of this package, or has signs that do not print; "
                    f"give it a name of its own.",
                )
        for values, of_test in lines.groupby([*TEST, "method"], sort=False):
            assert isinstance(values, tuple)
            key, method = tuple(values[:-1]), str(values[-1])
            if key not in self.tests:
                words = ", ".join(f"{name} {value}" for name, value in zip(TEST, key, strict=True))
                raise self._predictions.refused(
                    of_test.index[0], f"the recipe has no such test ({words}); `icm-bench splits` lists its tests."
                )
            trial, holdout, split = self.tests[key]
            spec, subjects = trial.spec, (trial.subject, *trial.variants)
            if (sees := (trial.subject.key, spec.protocol.across_sets, spec.split)) not in known:
                unreadable = {s.manifest.name: self._unreadable[s.key] for s in subjects}
                first, *others = (s.manifest for s in subjects)
                known[sees] = seen(first, others, spec.split, unreadable)
            test = ImportedTest(trial, known[sees], holdout, split)
            by_setting = list(of_test.groupby("setting", sort=True))
            answered = [self._answered(test, str(setting), lines) for setting, lines in by_setting]
            self._check_scores(test, answered, of_test)
            yield json.dumps([*map(str, key), method], ensure_ascii=False), imported_rows(test, method, answered)

    def _with_tests(self, lines: pd.DataFrame) -> pd.DataFrame:
        """Return the lines with all columns of `TEST`: what a file leaves out must be the only one of its kind."""
        lines = lines.copy()
        for place, name in enumerate(TEST):
            known = list(dict.fromkeys(key[place] for key in self.tests))
            if name not in lines:
                if len(known) > 1:
                    raise IcmBenchError(
                        f"{self._predictions.file}: the column '{name}' is needed, since the recipe has several: "
                        f"{some(known)}."
                    )
                lines[name] = known[0]
            elif len(other := lines.index[~lines[name].isin(known)]):
                value = lines[name][other[0]]
                names = nearest(str(value), [str(one) for one in known]) if name in WORDS else f"Valid: {some(known)}."
                raise self._predictions.refused(other[0], f"the recipe has no {name} '{value}'; {names}")
        return lines

    def _answered(self, test: ImportedTest, setting: str, lines: pd.DataFrame) -> Answered:
        scores = lines["source_score"]
        if len(other := lines.index[(scores != scores.iloc[0]) & ~(scores.isna() & np.isnan(scores.iloc[0]))]):
            raise self._predictions.refused(
                other[0], "source_score differs within one test and setting; give one accuracy for all its images."
            )
        return Answered(setting, float(scores.iloc[0]), self._predicted(test, lines))

    def _check_scores(self, test: ImportedTest, answered: list[Answered], lines: pd.DataFrame) -> None:
        """Refuse settings among which no rule could choose fairly."""
        scored = [not np.isnan(one.source_score) for one in answered]
        method, protocol = lines["method"].iloc[0], test.trial.spec.protocol.name
        if len(answered) > 1 and test.can_choose and not all(scored):
            raise self._predictions.refused(
                lines.index[0],
                f"{method} has {len(answered)} settings here, and not each has a source_score by which rules choose; "
                f"give their accuracies on the sources, or import the setting that its author chose.",
            )
        if any(scored) and not test.can_choose:
            raise self._predictions.refused(
                lines.index[0], f"'{protocol}' leaves nothing to choose by; leave source_score empty there."
            )

    def _predicted(self, test: ImportedTest, lines: pd.DataFrame) -> NDArray[np.int64]:
        """Return the predicted class of each image that a protocol sees, -1 where it is not tested."""
        data, table = test.images.data, test.images.table
        classes = pd.Index(data.classes).get_indexer(pd.Index(lines["predicted"]))
        if (classes < 0).any():
            row = lines.index[classes < 0][0]
            word = lines["predicted"][row]
            raise self._predictions.refused(
                row, f"'{word:.60}' is no class of {test.trial.subject.manifest.name}; {nearest(word, data.classes)}"
            )
        of_tests = [test.roles.of_test(one) for one in test.holdout.tests if one.split == test.split]
        rows = np.flatnonzero(np.any(of_tests, axis=0))
        unreadable = set[str]()  # ids and paths
        for subject in (test.trial.subject, *test.trial.variants):
            ids, every = self._unreadable[subject.key], subject.manifest.table
            gone = every.filter(pc.is_in(every["image_id"], pa.array(sorted(ids), pa.string())))
            unreadable |= {*ids, *gone["path"].to_pylist()}
        images = TestImages(table.take(rows), table, frozenset(unreadable))
        predicted = np.full(len(data.label), -1)
        predicted[rows] = answers_of(self._predictions, lines, classes, images)
        return predicted
