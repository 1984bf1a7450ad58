"""`icm-bench unlabelled`: estimates accuracies on environments without labels, and the errors of the estimates."""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.commands.embed import on_sound_embeddings
from benchmark.commands.preparing.prepare import Run, check_embedded, have_embeddings, report_place
from benchmark.commands.preparing.records import record_of
from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.cluster import connect
from benchmark.method.evaluation.estimates import agreements, aline_estimates
from benchmark.method.evaluation.protocols import PROTOCOLS
from benchmark.store.records import report_folder
from benchmark.sweep.evaluate import common_columns
from benchmark.sweep.trials import Trial, trials_of
from benchmark.sweep.unlabelled import Answers, answers_of

if TYPE_CHECKING:
    from reports.analysis.diagnostics import Estimated


def unlabelled(run: Run) -> tuple[dict[str, Any], str]:
    """Estimate the accuracy of every method on environments without labels. Needs embedded views, but no sweep.

    Call it in a block of `connected`. Placebos and searches are left out. Returns estimates and file names as plain
    data, and the tables as text.

    Raises:
        IcmBenchError: embeddings are missing, no method is left, or a file cannot be written.
    """
    from reports.text.diagnosis import write_estimates

    estimates = on_sound_embeddings(run, lambda: _estimates(run))
    recipe, record = run.recipe, PurePosixPath(record_of(run.recipe, run.subjects)).stem
    place, folder = report_place(run, report_folder(recipe.name, recipe.hash(), record, "unlabelled"))
    files, text = write_estimates(estimates, place, folder, recipe.name)
    return {"estimates": [one.content() for one in estimates], "files": files}, text


def _estimates(run: Run) -> "list[Estimated]":
    have_embeddings(run, run.subjects)
    for subject in run.unlabelled.values():
        check_embedded(run.storage, subject)
    # One trial of the protocol `held_out` with an 80/20 split for each method and seed.
    split = {"test_splits": ("full",), "folds": None, "train_shares": (1.0,)}
    held_out = {"protocols": (PROTOCOLS.create("held_out"),), **split}
    recipe = run.recipe.model_copy(update={"sweep": run.recipe.sweep.model_copy(update=held_out)})
    every = trials_of(recipe, [subject.with_unreadable(run.storage) for subject in run.subjects])
    chosen = [t for t in every if not (t.spec.space or (t.spec.intervention_set and t.spec.intervention_set.placebo))]
    trials = sorted(chosen, key=lambda trial: (trial.shares, trial.sums))
    if not trials:
        raise IcmBenchError(f"'{run.recipe.name}' has only placebos and searches; add a projection with own lambdas.")
    connect()
    by_case: dict[tuple[str, str, int], list[Answers]] = {}
    for answers in answers_of(run.storage, trials, run.unlabelled, run.recipe.run):
        trial = trials[answers.trial]
        by_case.setdefault((trial.subject.name, answers.environment, trial.spec.seed), []).append(answers)
    return _over_seeds(trials, by_case)


def _over_seeds(trials: Sequence[Trial], by_case: dict[tuple[str, str, int], list[Answers]]) -> "list[Estimated]":
    """Return the estimates of every method on every environment, averaged over seeds, in the order of the recipe."""
    # A new estimate also goes into `Estimated` (reports/analysis/diagnostics.py) and reports/text/diagnosis.py.
    from reports.analysis.diagnostics import Estimated

    found: dict[tuple[str, str, str, str], list[tuple[Answers, float, int]]] = {}
    methods = _methods(trials)
    for (dataset, environment, _), of_case in by_case.items():
        for answers, agreement in _with_agreement(of_case):
            trial = trials[answers.trial]
            sources = len(trial.environments) - answers.labelled
            key = dataset, trial.subject.facts.label, methods[answers.trial], environment
            found.setdefault(key, []).append((answers, agreement, sources))
    return [
        Estimated(
            *key,
            sources=parts[0][2],
            source=fmean(answers.source for answers, _, _ in parts),
            atc=fmean(answers.atc for answers, _, _ in parts),
            agreement=fmean(agreement for _, agreement, _ in parts),
            accuracy=fmean(answers.accuracy for answers, _, _ in parts),
        )
        for key, parts in found.items()
    ]


def _with_agreement(of_case: Sequence[Answers]) -> Iterator[tuple[Answers, float]]:
    """Yield the methods' answers on one environment, each with the accuracy that is estimated from agreement.

    A method's agreement is measured with the methods that have the same readable images, which may differ between
    backbones.
    """
    alike: dict[tuple[int, int], list[Answers]] = {}
    for answers in of_case:
        alike.setdefault((len(answers.of_sources), len(answers.of_target)), []).append(answers)
    for images, group in alike.items():
        group.sort(key=lambda answers: answers.trial)
        accuracies = np.array([answers.validation_accuracy for answers in group])
        on_sources = agreements([answers.of_sources for answers in group])
        on_target = agreements([answers.of_target for answers in group])
        estimates = aline_estimates(accuracies, on_sources, on_target, images)
        yield from zip(group, [float("nan")] * len(group) if estimates is None else estimates.tolist(), strict=True)


def _methods(trials: Sequence[Trial]) -> list[str]:
    """Return a label of each trial's method, as in tables; it names intervention set and scaling if these vary."""
    from reports.analysis.methods import Method

    specs = [trial.spec for trial in trials]
    sets = [spec.intervention_set.name if spec.intervention_set else "" for spec in specs]
    several = len(set(sets) - {""}) > 1, len({spec.normalize for spec in specs}) > 1
    names = []
    for trial, spec, chosen in zip(trials, specs, sets, strict=True):
        params = spec.predictor.label.removeprefix(spec.predictor.name)[1:-1]
        method = Method.of_row({**common_columns(trial), "placebo_draw": None, "predictor_variant": params or None})
        beside = chosen if several[0] else "", f"normalize {spec.normalize}" if several[1] else ""
        names.append(", ".join(filter(None, [method.label, *beside])))
    return names
