"""`icm-bench details`: what the picks of the fair rules predict, image by image, for the page of the report."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.estimate import Known, seconds_again
from benchmark.commands.prepare import Run, have_embeddings
from benchmark.commands.records import swept
from benchmark.common.errors import IcmBenchError
from benchmark.common.progress import Progress
from benchmark.common.storage import Storage
from benchmark.common.workers import Workers, cores
from benchmark.method.evaluation.selection import SOURCE_RULES
from benchmark.method.evaluation.splits import Split
from benchmark.recipe.specs import SearchSpec
from benchmark.store import embeddings as store
from benchmark.store.checked import DamagedError
from benchmark.store.costs import DETAILS, Cost
from benchmark.store.details import (
    MAP,
    PREDICTIONS,
    Decoded,
    Details,
    Part,
    Pick,
    problem_of,
    write_details,
    written,
)
from benchmark.store.rows import read_rows
from benchmark.store.tested import read_tested
from benchmark.sweep.answers import AnswersDifferError
from benchmark.sweep.images import seen
from benchmark.sweep.refits import Refitted, Work, forget, refit_all
from benchmark.sweep.search import Search, Study, rounds_of, studies_of
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import Trial, trials_of
from benchmark.sweep.work import fitting_again, size_of, work_of


@dataclass(frozen=True)
class Written:
    """What `details` wrote, and found written.

    Attributes:
        parts: number of methods of settings that have details.
        written: number of those that were written now.
        trials: number of trials that were fitted again.
        files: names of all files of predictions, inside the store, in the order of the report.
        maps: names of the maps.
    """

    parts: int
    written: int
    trials: int
    files: list[str]
    maps: list[str]

    def text(self) -> str:
        """Return it in a line for each file of predictions and each map."""
        head = f"Predictions of {self.parts} methods of settings, {self.written} of them written now:"
        return "\n".join([head, *self.files, "Maps of images:" if self.maps else "No map.", *self.maps])


def details_stage(run: Run) -> Written:
    """Fit again what the fair rules picked and write its predictions. Needs the rows; in a block of `connected`.

    What was written for the same rows is not made again.

    Raises:
        IcmBenchError: the recipe was not swept, its code or data have changed since, or answers are not those of the
            rows; names the trial. All that is sound is written before.
    """
    return on_sound_embeddings(run, lambda: _details(run))


def _details(run: Run) -> Written:
    began = time.time()
    parts = _parts(run)
    there = written(run.storage)
    _check(run.storage, [part for part in parts if part.file in there])
    missing = [part for part in parts if part.file not in there]
    trials = 0
    if missing:
        run.notify(f"details: {len(parts)} methods of settings, {len(parts) - len(missing)} of them done before")
        have_embeddings(run, run.subjects)
        trials = len({pick.trial for part in missing for pick in part.picks})
        processes = fitting_again(trials)
        with Workers(processes if processes > 1 else 0, "benchmark.sweep.refits") as workers:
            try:
                works = _works(run, missing)
                _write(run, missing, works, workers)
            finally:
                forget()
        if len(missing) == len(parts):
            again = seconds_again(Known.here(run.storage).or_elsewhere(), [work.trial for work in works])
            run.remember([Cost(DETAILS, again / processes, time.time() - began)])
    files = [part.file for part in parts]
    there = written(run.storage) if missing else there
    maps = [part.map_file for part in parts if part.map_file in there]
    return Written(len(parts), len(missing), trials, files, maps)


def _check(storage: Storage, parts: Sequence[Part]) -> None:
    """Read back what was written of some parts: nothing before the report would notice that it is damaged.

    Raises:
        DamagedError: files are not what was written; with one of a part, that of its predictions is named, which says
            that all of it is there.
    """
    problems: dict[str, str] = {}
    for part in parts:
        for name in (part.map_file, part.decoded_file, part.file):
            if problem := problem_of(storage, name):
                problems[name] = problem
                problems.setdefault(part.file, f"goes with {storage.path(name)}, which is damaged")
    if problems:
        raise DamagedError.of(storage, problems)


def _parts(run: Run) -> list[Part]:
    """Return what there is to be written, in the order of the report."""
    from reports.chosen import Selections
    from reports.details import parts_of
    from reports.settings import by_setting

    record = swept(run.recipe, run.storage, run.subjects)
    rows = read_rows(run.storage, record.trials)
    tested = read_tested(run.storage, rows["tested"])
    return [
        part for setting, of_setting in by_setting(rows) for part in parts_of(setting, Selections(of_setting, tested))
    ]


def _works(run: Run, parts: Sequence[Part]) -> list[Work]:
    """Return the trials that parts need, those next to each other that share most, with the picks of each."""
    trials = {trial.id: trial for trial in _every_trial(run)}
    picks: dict[str, dict[tuple[object, ...], Pick]] = {}
    read, drawn = set(), set()
    for part in parts:
        for pick in part.picks:
            if pick.trial not in trials:
                raise IcmBenchError(
                    f"{part.method}: the rows of the trial {pick.trial} were made by other code, data or weights than "
                    f"those at hand; run the recipe again: icm-bench run RECIPE."
                )
            picks.setdefault(pick.trial, {}).setdefault(pick.point, pick)
        looked_at = [pick.point for pick in _looked_at(part, trials)]
        read |= set(looked_at)
        drawn |= set(looked_at[:1])
    works = [
        Work(
            trial=trials[id_],
            picks=tuple(of_trial.values()),
            looked_at=tuple(point in read for point in of_trial),
            mapped=tuple(point in drawn for point in of_trial),
            device=_device(run, trials[id_]),
        )
        for id_, of_trial in picks.items()
    ]
    return sorted(works, key=lambda work: (work.trial.shares, work.trial.sums))


def _every_trial(run: Run) -> list[Trial]:
    """Return all trials of a run: of a search those that its scores in the store lead to, one after the other."""
    subjects = [subject.with_unreadable(run.storage) for subject in run.subjects]
    every = trials_of(run.recipe, subjects)
    grid, studies = [t for t in every if not t.spec.space], studies_of([t for t in every if t.spec.space])
    spec = run.recipe.sweep.search
    return [*grid, *_searched(run, spec, studies)] if spec and studies else grid


def _searched(run: Run, spec: SearchSpec, studies: Sequence[Study]) -> list[Trial]:
    search, trials = Search(spec, studies), []
    known = {study.trial.subject.key: study.trial.subject for study in studies}
    for count in rounds_of(spec):
        kinds = search.ask(count)
        trials += search.trials({key: subject.with_kinds(kinds[key]) for key, subject in known.items()})
        search.tell(run.storage)
    return trials


def _looked_at(part: Part, trials: Mapping[str, Trial]) -> list[Pick]:
    """Return the picks whose space is looked at: of one rule, the first seed and fold, where that is a result at all.

    They are sorted by what is held out, and the first of them is drawn.

    The rule is the one by which reports compare: the last of the fair ones that picks anything.
    """
    if not part.projects or trials[part.picks[0].trial].spec.protocol.looks_at_target:
        return []
    rule = max((pick.rule for pick in part.picks), key=SOURCE_RULES.index)
    of_rule = [pick for pick in part.picks if pick.rule == rule]
    first = min((pick.seed, pick.fold) for pick in of_rule)
    of_first = [pick for pick in of_rule if (pick.seed, pick.fold) == first]
    return sorted(of_first, key=lambda pick: pick.held_out)


def _write(run: Run, parts: Sequence[Part], works: Sequence[Work], workers: Workers) -> None:
    """Fit again, and write each part as soon as all its picks are there.

    Raises:
        AnswersDifferError: of the first trial whose answers differ, once everything else is written.
    """
    found: dict[tuple[object, ...], Refitted] = {}
    trials = {work.trial.id: work.trial for work in works}
    waiting, left = list(parts), set(trials)
    images: dict[tuple[str, ...], pa.Table] = {}
    differs: list[AnswersDifferError] = []
    for work, answer in _answers(run, works, workers):
        if isinstance(answer, AnswersDifferError):
            differs.append(answer)
            continue
        left.remove(work.trial.id)
        found |= {pick.point: one for pick, one in zip(work.picks, answer, strict=True)}
        for part in [part for part in waiting if left.isdisjoint(pick.trial for pick in part.picks)]:
            waiting.remove(part)
            trial = trials[part.picks[0].trial]
            key = tuple(subject.key for subject in _tested_subjects(trial))
            if key not in images:
                images[key] = _images(run, trial)
            looked_at = _looked_at(part, trials)
            write_details(run.storage, part, _of_part(part, trial, images[key], found, looked_at))
            for pick in part.picks:
                found.pop(pick.point, None)
    if differs:
        raise differs[0]


def _answers(
    run: Run, works: Sequence[Work], workers: Workers
) -> Iterator[tuple[Work, list[Refitted] | AnswersDifferError]]:
    """Yield what each trial gives as it comes; together go those that share most, and first those that take longest."""
    batches = [list(batch) for _, batch in groupby(works, key=lambda work: work.trial.shares)]
    if len(batches) < 2 * cores():
        batches = [[work] for work in works]
    batches.sort(key=lambda batch: -sum(work_of(work.trial.spec, size_of(work.trial)) for work in batch))
    splits, by_id = _splits(works), {work.trial.id: work for work in works}
    progress = Progress("details", len(works), "trials")
    for _, (id_, answer) in workers.call_all(refit_all, [(run.storage, batch, splits) for batch in batches]):
        progress.update(note=by_id[id_].trial.label)
        yield by_id[id_], answer
    progress.close()


def _of_part(
    part: Part,
    trial: Trial,
    images: pa.Table,
    found: Mapping[tuple[object, ...], Refitted],
    looked_at: Sequence[Pick],
) -> Details:
    """Return the details of a part.

    Args:
        part: whose.
        trial: any of its trials.
        images: that its protocol sees.
        found: what was found for all its picks.
        looked_at: those of its picks whose space was looked at.
    """
    decoded = []
    for pick in looked_at:
        before, after = found[pick.point].before, found[pick.point].after
        if before and after:
            numbers = before.balanced_accuracy, after.balanced_accuracy, before.chance, before.n
            decoded.append(Decoded(pick.rule, pick.held_out, pick.seed, pick.fold, pick.rank, *numbers))
    return Details(
        predictions=_predictions(part, images, found),
        classes=tuple(trial.subject.manifest.classes),
        map=_map(images, found, looked_at),
        decoded=tuple(decoded),
    )


def _predictions(part: Part, images: pa.Table, found: Mapping[tuple[object, ...], Refitted]) -> pa.Table:
    """Return the predictions of a part, pick by pick."""
    of_picks = [found[pick.point] for pick in part.picks]
    sizes = [len(one.rows) for one in of_picks]
    rows = pa.array(np.concatenate([one.rows for one in of_picks]))
    margins = np.concatenate([one.margins for one in of_picks])
    of_images = {"image_id": "image_id", "environment": "environment", "class": "class_name", "group": "group"}
    columns = {name: images[column].take(rows) for name, column in of_images.items()}
    columns |= {name: np.repeat([getattr(pick, name) for pick in part.picks], sizes) for name in ("seed", "fold")}
    columns |= {name: _words([getattr(pick, name) for pick in part.picks], sizes) for name in ("held_out", "rule")}
    columns |= {name: _words([getattr(part, name)] * len(sizes), sizes) for name in ("method", "predictor")}
    columns["predicted"] = np.concatenate([one.predicted for one in of_picks])
    columns["margin"] = pa.array(margins, mask=np.isnan(margins))
    return pa.table({field.name: columns[field.name] for field in PREDICTIONS}, schema=PREDICTIONS)


def _words(words: Sequence[str], sizes: Sequence[int]) -> pa.DictionaryArray:
    """Return a column in which each of some words stands so many times."""
    different = list(dict.fromkeys(words))
    numbers = np.repeat(np.array([different.index(word) for word in words], dtype=np.int32), sizes)
    return pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(different, pa.string()))


def _map(images: pa.Table, found: Mapping[tuple[object, ...], Refitted], looked_at: Sequence[Pick]) -> pa.Table | None:
    """Return the map of the pick that is drawn; None where there is none."""
    axes = found[looked_at[0].point].axes if looked_at else None
    if axes is None:
        return None
    there = images.take(axes.rows)
    columns = {"id": "image_id", "path": "path", "class": "class_name", "environment": "environment"}
    of_images = {name: there[column] for name, column in columns.items()}
    places = {"x": axes.before[:, 0], "y": axes.before[:, 1], "x_after": axes.after[:, 0], "y_after": axes.after[:, 1]}
    return pa.table({**of_images, **places}, schema=MAP)


def _images(run: Run, trial: Trial) -> pa.Table:
    """Return the images that a trial sees, in the order of its data; words are kept once."""
    first, *others = _tested_subjects(trial)
    unreadable = {s.manifest.name: frozenset(store.rejected(run.storage, s.views)) for s in (first, *others)}
    table = seen(first.manifest, [s.manifest for s in others], trial.spec.split, unreadable).table
    words = ("image_id", "environment", "class_name", "group")
    for name in words:
        column = table[name].combine_chunks().dictionary_encode()
        table = table.set_column(table.column_names.index(name), name, column)
    return table


def _tested_subjects(trial: Trial) -> tuple[Subject, ...]:
    return (trial.subject, *trial.variants)


def _splits(works: Sequence[Work]) -> dict[str, tuple[Split, ...]]:
    """Return key of a subject -> the splits that any trial needs of it."""
    splits: dict[str, set[Split]] = {}
    for trial in (work.trial for work in works):
        for subject in (*_tested_subjects(trial), *([trial.lender] if trial.lender else [])):
            splits.setdefault(subject.key, set()).add(trial.spec.split)
    return {key: tuple(sorted(of_subject)) for key, of_subject in splits.items()}


def _device(run: Run, trial: Trial) -> str:
    """Return the torch device of a trial, as the sweep chooses it."""
    asked = run.recipe.run.gpus_per_trial
    if not (trial.samples if asked == "auto" else asked):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
