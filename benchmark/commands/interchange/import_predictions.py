"""`icm-bench import`: turn predictions of methods trained elsewhere into result rows of a sweep."""

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

from benchmark.commands.interchange.files import row_error
from benchmark.commands.interchange.prediction_files import TEST, WORDS, Predictions, match_to_images
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

Key = tuple[Any, ...]  # values of the columns `TEST`


@dataclass(frozen=True)
class Imported:
    """Summary of an import."""

    file: str
    predictions: int  # number of lines of the file
    methods: list[str]
    rows: int  # number of result rows made from the file
    written: int  # number of these rows that the store did not have
    replaced: int  # number of earlier imports of the same method and test that were replaced


def import_predictions(run: Run, predictions: Predictions) -> Imported:
    """Write predictions as result rows, and add them to the record of the run.

    The lines of a method in a test replace an earlier import of the same method and test.

    Raises:
        IcmBenchError: the recipe was not swept, or a line does not fit the recipe or its data (with file and row).
    """
    swept(run.recipe, run.storage, run.subjects)
    for subject in run.subjects:
        check_embedded(run.storage, subject)  # after embedding, unreadable images are known
    evaluated = dict(_Matching(run, predictions).rows())  # all lines are checked before any row is written
    ids = {}  # test and method -> hash of its rows
    for name, result in evaluated.items():
        content = [{k: str(v) for k, v in row.items() if k != "code_version"} for row in result.rows]
        ids[name] = canonical_hash(["imported", content])[:32]
    new = [name for name, id_ in ids.items() if not run.storage.exists(row_file(id_))]
    for name, result in evaluated.items():
        for tested in result.tested:
            write_tested(run.storage, tested)
        if name in new:
            write_rows(run.storage, ids[name], result.rows)
    replaced = add_imported(run.recipe, run.storage, run.subjects, ids)
    for id_ in replaced:
        run.storage.delete(row_file(id_))
    return Imported(
        file=str(predictions.file),
        predictions=len(predictions.lines),
        methods=sorted(predictions.lines["method"].unique().tolist()),
        rows=sum(len(result.rows) for result in evaluated.values()),
        written=sum(len(evaluated[name].rows) for name in new),
        replaced=len(replaced),
    )


class _Matching:
    """Matches the lines of a file to the tests and images of a recipe."""

    def __init__(self, run: Run, predictions: Predictions) -> None:
        self._run, self._file, self._lines = run, predictions.file, predictions.lines
        self._unreadable = {one.key: frozenset(store.rejected(run.storage, one.views)) for one in run.subjects}

    @cached_property
    def tests(self) -> dict[Key, tuple[Trial, Holdout, TestSplit]]:
        """Three things for each test of the recipe: a trial that includes it, its holdout, and its test split.

        The keys are the values of the columns `TEST`.
        """
        tests: dict[Key, tuple[Trial, Holdout, TestSplit]] = {}
        for trial in trials_of(self._run.recipe, self._run.subjects):
            spec, subject = trial.spec, trial.subject
            if subject.clusters:
                raise IcmBenchError(
                    f"{subject.manifest.name} has clusters as environments, which a method trained elsewhere cannot "
                    f"know; import into a recipe without `environments`."
                )
            names = subject.manifest.name, subject.facts.label, spec.protocol.name
            for turn, holdout in product(spec.turns, trial.holdouts):
                for split in dict.fromkeys(test.split for test in holdout.tests):
                    key = (*names, holdout.name, split, spec.seed, -1 if turn.fold is None else turn.fold)
                    tests.setdefault(key, (replace(trial, spec=turn), holdout, split))
        return tests

    def rows(self) -> Iterator[tuple[str, Evaluated]]:
        """Yield, for each test and method in the order of the file, a text that names both, and the result rows."""
        lines = self._with_tests()
        known: dict[tuple[str, bool, Split], Seen] = {}  # images of a protocol, without unreadable ones
        for row, name in lines["method"].drop_duplicates().items():
            if name in PREDICTORS.names() or not name.isprintable() or name != name.strip():
                problem = "is the name of a predictor of this package, or not printable; rename it."
                raise row_error(self._file, int(str(row)), f"the method {name!r} {problem}")
        for values, of_test in lines.groupby([*TEST, "method"], sort=False):
            assert isinstance(values, tuple)
            key, method = tuple(values[:-1]), str(values[-1])
            if key not in self.tests:
                words = ", ".join(f"{name} {value}" for name, value in zip(TEST, key, strict=True))
                problem = f"the recipe has no test with {words}; `icm-bench splits` lists its tests."
                raise row_error(self._file, of_test.index[0], problem)
            trial, holdout, split = self.tests[key]
            spec, subjects = trial.spec, (trial.subject, *trial.variants)
            if (sees := (trial.subject.key, spec.protocol.across_sets, spec.split)) not in known:
                unreadable = {s.manifest.name: self._unreadable[s.key] for s in subjects}
                first, *others = (s.manifest for s in subjects)
                known[sees] = seen(first, others, spec.split, unreadable)
            test = ImportedTest(trial, known[sees], holdout, split)
            answered = []
            for setting, of_setting in of_test.groupby("setting", sort=True):
                scores = of_setting["source_score"]
                score = float(scores.iloc[0])
                if len(other := of_setting.index[(scores != score) & ~(scores.isna() & np.isnan(score))]):
                    problem = "source_score differs within one test and setting; give one accuracy for all its images."
                    raise row_error(self._file, other[0], problem)
                answered.append(Answered(str(setting), score, self._predicted(test, of_setting)))
            self._check_scores(test, answered, of_test)
            yield json.dumps([*map(str, key), method], ensure_ascii=False), imported_rows(test, method, answered)

    def _with_tests(self) -> pd.DataFrame:
        """Return the lines with all columns of `TEST`; a column that the file lacks gets the recipe's only value."""
        lines = self._lines.copy()
        for place, name in enumerate(TEST):
            known = list(dict.fromkeys(key[place] for key in self.tests))
            if name not in lines:
                if len(known) > 1:
                    raise IcmBenchError(f"{self._file}: add the column '{name}', which is one of {some(known)}.")
                lines[name] = known[0]
            elif len(other := lines.index[~lines[name].isin(known)]):
                value = lines[name][other[0]]
                names = nearest(str(value), [str(one) for one in known]) if name in WORDS else f"Valid: {some(known)}."
                raise row_error(self._file, other[0], f"the recipe has no {name} '{value}'; {names}")
        return lines

    def _check_scores(self, test: ImportedTest, answered: list[Answered], lines: pd.DataFrame) -> None:
        """Refuse several settings if one of them has no source_score, and scores that the protocol cannot use."""
        scored = [not np.isnan(one.source_score) for one in answered]
        problem = ""
        if len(answered) > 1 and test.can_choose and not all(scored):
            problem = (
                f"{lines['method'].iloc[0]} has {len(answered)} settings here, and not each has a source_score for "
                f"model selection; give all their accuracies on the sources, or import one setting."
            )
        if any(scored) and not test.can_choose:
            problem = f"'{test.trial.spec.protocol.name}' has no model selection; leave source_score empty there."
        if problem:
            raise row_error(self._file, lines.index[0], problem)

    def _predicted(self, test: ImportedTest, lines: pd.DataFrame) -> NDArray[np.int64]:
        """Return the predicted class of each image of the protocol; -1 for images that are not tested."""
        data, table = test.images.data, test.images.table
        classes = pd.Index(data.classes).get_indexer(pd.Index(lines["predicted"]))
        if (classes < 0).any():
            row, name = lines.index[classes < 0][0], test.trial.subject.manifest.name
            word = lines["predicted"][row]
            raise row_error(self._file, row, f"'{word:.60}' is no class of {name}; {nearest(word, data.classes)}")
        of_tests = [test.roles.of_test(one) for one in test.holdout.tests if one.split == test.split]
        rows = np.flatnonzero(np.any(of_tests, axis=0))
        unreadable = set[str]()  # ids and paths
        for subject in (test.trial.subject, *test.trial.variants):
            ids, every = self._unreadable[subject.key], subject.manifest.table
            gone = every.filter(pc.is_in(every["image_id"], pa.array(sorted(ids), pa.string())))
            unreadable |= {*ids, *gone["path"].to_pylist()}
        predicted = np.full(len(data.label), -1)
        predicted[rows] = match_to_images(self._file, lines, classes, table.take(rows), table, unreadable)
        return predicted
