"""Wrong formulas that the tests must not let pass: one line of the code changed at a time, and the tests that notice.

    python -m tests.mutations [--only WORD] [--jobs 1]

Each mutation is made in a copy of the working tree, and the tests named beside it run there; one that passes all of them
is a survivor, and the command ends with an error. Tests that are `long` do not count: `make test` has to notice. Not
part of `make test`: it takes some seconds for each.
"""

import argparse
import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.forks import IMPORTED

EVALUATION, PREDICTORS = "benchmark/method/evaluation", "benchmark/method/predictors"
T_EVALUATION, T_PREDICTORS = "tests/method/evaluation", "tests/method/predictors"


@dataclass(frozen=True)
class Mutation:
    """One wrong line.

    Attributes:
        file: the file that is changed.
        right: what stands in it, exactly once.
        wrong: what is put in its place.
        tests: files of tests of which one must fail.
    """

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]


def _of(file: str, *mutations: tuple[str, str, str]) -> list[Mutation]:
    return [Mutation(file, right, wrong, tuple(tests.split())) for right, wrong, tests in mutations]


_REFERENCE, _PROTOCOLS = f"{T_PREDICTORS}/test_reference.py", f"{T_EVALUATION}/test_protocols.py"
_SELECTION, _CLASSIFIER = f"{T_EVALUATION}/test_selection.py", f"{T_EVALUATION}/test_classifier.py"
_CHOICE, _SAMPLING = f"{T_EVALUATION}/test_evaluation.py", f"{T_EVALUATION}/test_sampling.py"
_ROLES, _IMPORTS, _IMPORTED = (
    f"{T_EVALUATION}/test_roles.py", "tests/commands/test_imports.py", "tests/reports/test_imported.py"
)  # fmt: skip
_SPLITS, _CELLS, _METRICS = (f"{T_EVALUATION}/test_{name}.py" for name in ("splits", "cells", "metrics"))
_BOARD = "tests/results/test_board.py"
_CHECK = "tests/results/test_check.py"
_PUBLISH = "tests/results/test_publish.py"
_BATCHING = "tests/embedding/test_batching.py"
_CROSSFIT = f"{T_EVALUATION}/test_crossfit.py"
_CHECKED, _EVALUATE = f"{T_EVALUATION}/test_checked.py", "tests/sweep/test_evaluate.py"
_INFERENCE, _OTHERS, _RANKS = (
    f"{T_EVALUATION}/test_{name}.py" for name in ("inference", "other_environments", "multiplicity")
)
_SEED_VARIANCE, _TESTING = (f"{T_EVALUATION}/test_{name}.py" for name in ("seed_variance", "multiple_testing"))
_VIEWS, _DEVICES = f"{T_PREDICTORS}/test_views.py", "tests/method/interventions/test_devices.py"
_SEALED = "tests/store/test_sealed.py"
_UP_TO_DATE = "tests/commands/test_up_to_date.py"
_UPKEEP, _CODE, _DRAWS = "tests/store/test_upkeep.py", "tests/common/test_code.py", "tests/sweep/test_draws.py"
_TABLES = "tests/reports/test_tables.py"
_COMPARISONS, _FINDINGS = (f"tests/reports/analysis/test_{name}.py" for name in ("comparisons", "findings"))
_PLACEBOS, _RANKED = "tests/method/subspace/test_placebos.py", "tests/reports/analysis/test_placebos.py"
_PARTNERS = f"{T_EVALUATION}/test_partners.py"
_VERDICTS = "tests/reports/analysis/test_verdicts.py"
_SHARED_WORK, _FILTERED = f"{T_EVALUATION}/test_shared_work.py", "tests/method/subspace/test_filtered.py"
_CREDIT, _SHRINKAGE = "tests/reports/analysis/test_credit.py", "tests/method/subspace/test_shrinkage.py"
_RIVALS = "tests/method/subspace/test_rivals.py"
_T_PAPER, _PAGE = "tests/reports/tables", "tests/reports/page/test_data.py"
_SPREAD, _BEHIND, _ROBUSTNESS = (
    f"tests/reports/analysis/test_{name}.py" for name in ("spread", "metrics", "robustness")
)

MUTATIONS = [
    *_of("benchmark/method/evaluation/answers.py",
        ("for name in (\"unit\", \"label\")", "for name in (\"position\", \"label\")", _COMPARISONS),
        ("else common.label >= n_base", "else common.label > n_base", _COMPARISONS),
        ("if metric == BALANCED else scores", "if False else scores", _COMPARISONS),
        ("values=first - others[0] if others else first", "values=first", _TABLES),
        ("of_all if held_out is None else [one.of([held_out]) for one in of_all], metric", "of_all, metric", _TABLES),
        ("if all((h, s) in there for h in held_outs))", "if any((h, s) in there for h in held_outs))", _TABLES),
        ("if all(other.get(key) == tested for other in others)", "if all(key in other for other in others)", _COMPARISONS),
    ),
    *_of("reports/analysis/comparisons.py",
        ("exact = zip(inference.by_environment(difference), (means[0] - means[1]).tolist()", "exact = zip(inference.by_environment(difference), (means[1] - means[0]).tolist()", _COMPARISONS),
        ("[one.standard_error**2 for one in single])", "[0.0 for one in single])", _VERDICTS),
        ("and not selections.grouped and", "and", _COMPARISONS),
        ("p = holm([one.interval.p for one in members])", "p = np.array([one.interval.p for one in members])", _COMPARISONS),
        ("equivalence(one.interval, margin)", "equivalence(one.interval)", _COMPARISONS),
        ("int((a & ~b).sum())", "int((a & b).sum())", _COMPARISONS),
        ("interval=None) if answers.shared else others", "interval=None) if False else others", _COMPARISONS),
        ("[i.standard_error**2 for i in effects]", "[1.0 for i in effects]", _COMPARISONS),
        ("answers = complete_answers(selections, [(method, rule) for method in methods])", "answers = together([selections.pooled(m, rule) for m in methods])", _COMPARISONS),
        ("if (name, one) not in usable)", "if False)", _FINDINGS),
        ("any(one.grouped for _, one in usable)", "all(one.grouped for _, one in usable)", _FINDINGS),
        ("return self.p <= ALPHA", "return self.p < 0.01", _COMPARISONS),
        ('"smallest_gain": inference.smallest_gain(interval.standard_error)', '"smallest_gain": interval.standard_error', _COMPARISONS),
    ),
    *_of("reports/tables/cells.py",
        ("return RULES[rule].looks_at_target or looks_at_target", "return RULES[rule].looks_at_target", _TABLES),
        ("return RULES[rule].looks_at_target or looks_at_target", "return looks_at_target", _TABLES),
        ("if there := selections.folds_present(method, held_out):", "if there := None:", _TABLES),
        ('if options.plus_minus == "seeds":', 'if options.plus_minus != "seeds":', _TABLES),
        ("100 * float(np.std(of_seeds, ddof=1))", "100 * float(np.std(of_seeds))", _TABLES),
        ("estimate.size.units_per_seed for", "estimate.size.images_per_seed for", _TABLES),
        ("if not interval.standard_error > 0:", "if False:", _TABLES),
        ("error = error if error and error > 0 else None", "pass", _TABLES),
        ("ours, selections.pooled(baseline, rule)", "ours, selections.pooled(baseline, selections.rule)", f"{_T_PAPER}/test_main.py"),
    ),
    *_of("reports/tables/spec.py",
        ("if len(found.tied) == len(found.methods):", "if False:", f"{_T_PAPER}/test_main.py"),
        ("not (cell.value is None or cell.equals_plain or cell.bound)", "not (cell.value is None or cell.bound)", f"{_T_PAPER}/test_main.py"),
        ("if one.ranked and not request.bound else None", "if one.ranked else None", f"{_TABLES} {_T_PAPER}/test_main.py"),
    ),
    *_of("reports/analysis/comparisons.py",
        ("adjusted = holm([interval.p for interval in differences.values()]).tolist()", "adjusted = [1.0] * len(differences)", f"{_T_PAPER}/test_main.py"),
    ),
    *_of("reports/tables/environments.py",
        ("() if request.bound else request.report", "request.report", _TABLES),
        ("difference = within.cell.value - average.cell.value", "difference = average.cell.value - within.cell.value", _TABLES),
        ("complete_estimate(selections, in_domain.pooled(method, own_rule), selections.pooled(method, rule))", "complete_estimate(selections, selections.pooled(method, rule), in_domain.pooled(method, own_rule))", _TABLES),
        ("return min(single", "return max(single", _BEHIND),
        ("100 * np.mean(found, axis=0)", "100 * np.max(found, axis=0)", _RANKED),
        ("{} if RULES[request.rule].looks_at_target else request.selections.draws", "request.selections.draws", _RANKED),
    ),
    *_of("reports/analysis/selections.py",
        ("if len(folds) == max(1, self.folds)", "if len(folds)", _TABLES),
        ("m.is_plain and m.predictor == predictor), None)", "m.is_plain), None)", f"{_T_PAPER}/test_main.py"),
        ('int(self._every[method]["dim"].iloc[0])', 'int(self._every[method]["ranks"].iloc[0][-1])', f"{_T_PAPER}/test_main.py"),
    ),
    *_of("reports/analysis/spans.py", ("/ np.maximum(known.sum(axis=2), 1)", "/ seeds", _SPREAD)),
    *_of("reports/page/data.py",
        ("_, accuracy = spread.chosen(rule,", "_, accuracy = spread.chosen(selections.rule,", _PAGE),
        ('short if f"{short:.1f}" == f"{value:.1f}" else float(value)', "short", _PAGE),
        ("values.mean(axis=0, keepdims=True)", "values[:1]", _PAGE),
    ),
    *_of("reports/text/captions.py", ('if setting.test_split == "in_80":', "if False:", _TABLES)),
    *_of("reports/render/cells.py", ("if error < least / 2 else", "if error < 0 else", "tests/reports/render/test_of_rows.py")),
    *_of("reports/analysis/findings.py",
        ("if set(pair) not in gains", "", _FINDINGS),
        ("(method, plain, selections.rule), (method, plain, rule),", "(method, plain, selections.rule),", _FINDINGS),
        ("*((method, m, rule) for m in others)]", "*((method, m, selections.rule) for m in others)]", _FINDINGS),
    ),
    *_of("reports/text/verdicts.py",
        ("not c.interval.low > 0", "c.interval.low > 0", "tests/reports/text/test_headline.py"),
        ('if interval.high < 0 else f"hurts', 'if True else f"hurts', "tests/reports/text/test_headline.py"),
        ("> MAX_WORDS:", "> 1000:", "tests/reports/text/test_headline.py"),
    ),
    *_of("reports/text/sentences.py", ("if real.learns_nothing", "if True", _RANKED)),
    *_of("reports/analysis/selections.py",
        ("picks if held_out is None else", "picks if True else", "tests/reports/page/test_data.py"),
    ),
    *_of("reports/analysis/findings.py",
        ("return self.p <= ALPHA", "return self.p < 0.9", _CREDIT),
        ('"environments alone": (_OWN, ENVIRONMENTS)', '"environments alone": (_OWN, INTERVENTIONS)', _CREDIT),
        ('"interventions alone with all else as chosen": (_OWN, REPLACED)', '"interventions alone with all else as chosen": (_OWN, INTERVENTIONS)', _CREDIT),
        ("m.projection == FIXED or m.of_projection", "m.of_projection", _VERDICTS),
    ),
    *_of("reports/analysis/verdicts.py",
        ("method.is_custom or method in made.requested", "method.is_custom", _VERDICTS),
        ("IS_PLAIN if n and k == n else NO_VERDICT if why else judged.kind", "NO_VERDICT if why else judged.kind", _VERDICTS),
        ("interval = adjusted_interval(self.gain.interval, self.family)", "interval = self.gain.interval", _VERDICTS),
        ("None if new is None else adjusted_interval(new, judged.family)", "new", _VERDICTS),
        ("abs(counts[0] - counts[1]).sum() / 2", "abs(counts[0] - counts[1]).sum()", _VERDICTS),
        ("if judged.shown and kind != IS_PLAIN else ()", "if kind != IS_PLAIN else ()", _CREDIT),
    ),
    *_of("benchmark/method/subspace/shrinkage.py",
        ("(1 + lambda_ * self.ratios) ** -p", "(1 - lambda_ * self.ratios) ** p", _SHRINKAGE),
        ('0.5 if sides == "symmetric" else 1.0', "1.0", _SHRINKAGE),
        ('return self._f if self._sides == "texts"', 'return self._f.T if self._sides == "texts"', _SHRINKAGE),
        ("made.left.T + text @ made.rest", "made.left.T + 0 * text @ made.rest", _FILTERED),
        ("(squared + trace**2) / apart)", "squared / apart)", _SHRINKAGE),
        ("return n + oas(sources.c_d(), pairs)", "return n + oas(sources.c_d(), 2 * pairs)", _SHRINKAGE),
        ("(t if self._sides", "(self._times(t) if self._sides", _FILTERED),
        ("schur = of_used @ used - coupling", "schur = of_used @ used + coupling", _SHRINKAGE),
        ("(used.T - coupling @ only_n.T)", "used.T", _SHRINKAGE),
        ("ratios, right, neither)", "ratios, right, 0 * neither)", _SHRINKAGE),
    ),
    *_of("benchmark/method/subspace/placebos.py",
        ("np.where(r.diagonal() < 0, -1.0, 1.0)", "np.where(r.diagonal() < 0, 1.0, 1.0)", _PLACEBOS),
        ("return np.asarray(q @ c_d @ q.T)", "return np.asarray(q @ c_d @ q)", _PLACEBOS),
        ("np.asarray(np.trace(c_d) / trace * placebo)", "np.asarray(placebo)", _PLACEBOS),
        ("within = left @ right", "pass", _PLACEBOS),
    ),
    *_of("benchmark/method/subspace/moments.py",
        ("[weight / sum(weights) for", "[1 / len(weights) for", f"{_CELLS} {_PARTNERS}"),
        ("if lasting and self._budget", "if self._budget", _SHARED_WORK),
        ("key[1] is None}", "True}", _SHARED_WORK),
        ("(fits := size <= self._left)", "(fits := True)", _SHARED_WORK),
    ),
    *_of("benchmark/method/subspace/nuisance.py",
        ('if name in ("interventions", "both") else None', "if name else None", _SHARED_WORK),
        ("(name, sources.kinds_key, placebo)", "(name, sources.kinds_key)", _SHARED_WORK),
    ),
    *_of("benchmark/method/subspace/invariant.py",
        ('"eigenbasis", centered, lambda_', '"eigenbasis", lambda_', _SHARED_WORK),
        ('"eigenbasis", centered, lambda_', '"eigenbasis", centered', _SHARED_WORK),
        ("if lambda_ else c_z_eigenbasis", "if True else c_z_eigenbasis", _SHARED_WORK),
        ("centered, lambda_, single", "centered, lambda_", _SHARED_WORK),
    ),
    *_of("benchmark/method/subspace/basis.py",
        ('("eigenbasis", centered), None', '("eigenbasis",), None', _SHARED_WORK),
        ("np.where(w[0] < 0, -1, 1)", "np.where(w[0] < 0, 1, 1)", "tests/method/subspace/test_projections.py"),
        ("1.00001 * np.cumsum(np.abs(t)", "0.5 * np.cumsum(np.abs(t)", "tests/method/subspace/test_facts.py"),
        ("np.float32 if single else np.float64", "np.float64", _SHARED_WORK),
    ),
    *_of("benchmark/method/evaluation/cells.py",
        ("partner[in_turn] = np.roll(in_turn, 1)", "partner[in_turn] = np.roll(in_turn, 0)", _PARTNERS),
        ("rows if drawn is None else rows[drawn[rows]]", "rows", "tests/method/evaluation/test_pairs.py"),
        ("Differences.mean(parts, weights or [1.0])", "Differences.mean(parts, [1.0] * len(parts))", "tests/method/evaluation/test_cells.py"),
    ),
    *_of("benchmark/sweep/evaluate.py",
        ("rows += [every[i] for i in picked_by_sources(every)]", "rows += every", "tests/sweep/test_placebos.py"),
    ),
    *_of("reports/analysis/comparisons.py",
        ("(1 + sum(draw >= real - EQUAL_WITHIN", "(1 + sum(draw > real + EQUAL_WITHIN", _RANKED),
    ),
    *_of("reports/analysis/methods.py",
        ('& real["interventions"].isin(sets.unique())]', "]", _RANKED),
        ("(at_rank and rank == dim)", "(rank == dim)", f"{_T_PAPER}/test_main.py"),
        ("not other_c_d and (", "(", f"{_T_PAPER}/test_main.py"),
        ("candidates[list(KEY)]).isin(tested)]", "candidates[list(KEY)]).isin(tested) | True]", _RANKED),
    ),
    *_of("benchmark/method/subspace/nuisance.py",
        ("np.trace(sources.original_c_d())", "np.trace(sources.c_d())", _PLACEBOS),
        ("b = apart.T @ apart / len(means)", "b = means.T @ means / len(means)", _SHRINKAGE),
        ('lambda sources: sources.c_d() + _environments(sources)', "lambda sources: sources.c_d()", _SHRINKAGE),
        ("scale(sources) / np.trace(c) * c", "c", _SHRINKAGE),
        ("scale(sources) / sources.dim * np.eye", "scale(sources) * np.eye", _SHRINKAGE),
        ("c_w = c_w + part.outer - (sums", "c_w = c_w + part.outer + (sums", _SHRINKAGE),
    ),
    *_of("benchmark/method/subspace/rivals/calibrated.py",
        ("np.trace(sources.c_z()) / sources.dim", "np.trace(sources.c_z())", _RIVALS),
    ),
    *_of("benchmark/method/subspace/rivals/nap.py",
        ("largest_first=True", "largest_first=False", _RIVALS),
        ("with_nuisance, sources.dim - 1)", "with_nuisance, sources.dim)", _RIVALS),
        ("min(self.removed, with_nuisance,", "min(self.removed,", _RIVALS),
    ),
    *_of("benchmark/method/subspace/rivals/denoiser.py",
        ("c_z_do.T)", "c_z_do)", _RIVALS),
    ),
    *_of("benchmark/method/subspace/rivals/channels.py",
        ("variances[n > 1].mean", "variances.mean", _RIVALS),
        ("np.argsort(-ratios", "np.argsort(ratios", _RIVALS),
    ),
    *_of("benchmark/method/subspace/rivals/own_environment.py",
        ("colouring  # both", "np.eye(sources.dim)  # both", _PROTOCOLS),
        ("offset = moments.total / moments.n - np", "offset = moments.total / moments.n + np", _PROTOCOLS),
    ),
    *_of(f"{EVALUATION}/evaluation.py",
        ("                if e not in fit.environments\n", "", _PROTOCOLS),
        ("if method.projection.looks_at_target_images:", "if True:", _PROTOCOLS),
    ),
    *_of(f"{EVALUATION}/splits.py",
        ("side[out_split(n, seed)] = OUT", "side[out_split(n, 0)] = OUT", _SPLITS),
        ('split_seed(split.seed, "group"), split.folds', 'split_seed(0, "group"), split.folds', _SPLITS),
        ("of_group[out[-(-len(out) // 2) :]] = CHOICE", "of_group[out[:0]] = CHOICE", _SPLITS),
        ("order = shuffled(n, seed)\n    for fold", "order = shuffled(n, 0)\n    for fold", _SPLITS),
        ("for i in range(1, split.folds)]", "for i in range(split.folds)]", f"{_SPLITS} {_CROSSFIT}"),
        ("others if crossed else others[:1]", "others", _SPLITS),
        ("others if crossed else others[:1]", "others[:1]", f"{_SPLITS} {_CROSSFIT}"),
        ("Validation(every - {fold, j}", "Validation(every - {j}", f"{_SPLITS} {_CROSSFIT}"),
        ("Validation(every - {fold, j}", "Validation(every - {fold}", f"{_SPLITS} {_CROSSFIT}"),
        ("return Turn(validations, every - {fold}, {", "return Turn(validations, every, {", f"{_SPLITS} {_REFERENCE}"),
        ("frozenset([CHOICE if grouped else OUT])", "frozenset([OUT])", f"{_SPLITS} {_REFERENCE}"),
        ("validation if grouped else inside)", "inside)", f"{_SPLITS} {_REFERENCE}"),
        ('return (classes + (rounding == "ceil")) // 2', "return (classes + 1) // 2", f"{_CELLS} {_PROTOCOLS}"),
        ("split_seed(split.seed, int(index), *word)", "split_seed(split.seed, int(index))", _SPLITS),
        ("split_seed(split.seed, int(index), *word)", "split_seed(split.seed, 0, *word)", _SPLITS),
    ),
    *_of(f"{EVALUATION}/selection.py",
        ("append=len(choices.row)) == 1)", "append=len(choices.row)) >= 1)", _IMPORTED),
        ("key=lambda place: (-place[1], place[0])", "key=lambda place: (place[1], place[0])", _SELECTION),
        ("np.where(half, b, a)", "np.where(half, a, b)", _SELECTION),
        ("row[RULES[rule].score] or ()", 'row["target"] or ()', _SELECTION),
        ("key = tuple(row[name] for name in KEY)", "key = tuple(row[name] for name in KEY[:2])", _SELECTION),
        ('"target_out" if rule.crossed else rule.score', "rule.score", _SELECTION),
        ('KEY = ("held_out", "seed", "fold")', 'KEY = ("held_out", "seed")', _SELECTION),
        ("np.where(whole, -1, fold)[order]", "np.zeros_like(fold)[order]", _SELECTION),
        ("np.where(whole, -1, fold)[order]", "fold[order]", _SELECTION),
        ("np.where(own, np.array(", "np.where(own | True, np.array(", _SELECTION),
    ),
    *_of(f"{EVALUATION}/selection.py",
        ("for keys in (scores, curves.ranks):", "for keys in (scores, -curves.ranks):", _SELECTION),
        ("~np.isnan(scores) & (curves.ranks == rank)", "~np.isnan(scores)", _SELECTION),
        ("words & parts[of_used[begin : begin + block], k, None]", "words", _SELECTION),
    ),
    *_of(f"{EVALUATION}/tested.py",
        ("return self.position if self.group is None else self.group", "return self.position", _SELECTION),
        ("np.random.default_rng(seed).permutation", "np.random.default_rng(0).permutation", _SELECTION),
    ),
    *_of(f"{EVALUATION}/classifier.py",
        ("logit_scale=data.logit_scale", "logit_scale=100.0", _CLASSIFIER),
        ("scored(images, images.possible(scores), temperature)", "scored(images, scores, temperature)", _PROTOCOLS),
        ("for t in (1.0, temperature)", "for t in (1.0, 1.0)", _CLASSIFIER),
        ("[of_set[setting, index] for of_set in self._validated]", "[self._validated[0][setting, index] for _ in self._validated]", _CLASSIFIER),
        ('renormalize=self.normalize in ("after", "both")', "renormalize=False", _REFERENCE),
        ("seed=self.seed", "seed=0", f"{T_PREDICTORS}/test_predictors.py {_EVALUATE} {_CLASSIFIER}"),
    ),
    *_of(f"{EVALUATION}/metrics.py",
        ("bins = np.minimum((confidence * BINS).astype(int), BINS - 1)", "bins = np.minimum((confidence * BINS + 0.5).astype(int), BINS - 1)", _METRICS),
        ("np.exp(log_softmax(logits / temperature, axis=1).max(axis=1))", "np.exp(log_softmax(logits, axis=1).max(axis=1))", _METRICS),
        ("2 * a * b / np.where(a + b > 0, a + b, 1.0)", "(a + b) / 2", _METRICS),
        ("/ (images + predicted)[there]", "/ (2 * images)[there]", _METRICS),
        ('own, "left") + every', 'own, "right") + every', _METRICS),
        ("np.where(known, by_class, 0.0).sum(axis=-1) / known.sum(axis=-1)", "np.where(known, by_class, 0.0).mean(axis=-1)", _METRICS),
    ),
    *_of(f"{EVALUATION}/evaluation.py",
        ("sum_of(e, fit.sides, fit.halves)", "sum_of(e, case.turn.validations[0].learned, fit.halves)", f"{T_EVALUATION}/test_spans.py"),
        ("moments.reweighted(method.weights, method.placebo, fit.for_choice)", "moments", "tests/method/evaluation/test_cells.py tests/commands/test_diagnose.py"),
        ("method.weights, method.placebo, fit.for", "method.weights, None, fit.for", f"{T_EVALUATION}/test_placebos.py"),
        ("cases if settings.lodo else", "cases if True else", _CHOICE),
        ("(test.environments, test.half): accuracy(of_test)", "(test.environments, 'new'): accuracy(of_test)", _CHOICE),
        ("self._sampled(fit) if few else train", "self._sampled(fit) if False else train", _SAMPLING),
        ("np.flatnonzero(self._sampled(block)", "np.flatnonzero(self._lying(block)", _SAMPLING),
        ("for only in (None, ranks[-1]):", "for only in (None,):", _SAMPLING),
        ("if validated else c.metrics[ACCURACY.key]", "if validated else c.lodo", _SAMPLING),
        ("if test.split == \"in_80\" else None", "if False else None", _CHOICE),
        ("[*found.notes, *lodo.notes]", "of_lodo.notes", _CHOICE),
        ("[*found.notes, *lodo.notes]", "found.notes", _CHOICE),
        ("split_seed(seed, fit.environments, sorted(fit.sides)) if", "seed if", _CROSSFIT),
        ("sorted(fit.sides)) if", "sorted(fit.sides), self._settings.fold) if", _CROSSFIT),
        ("else plain[best[1], best[0]]", "else plain[0, 0]", _CROSSFIT),
        ("data.group is None else data.group[every]", "True else data.group[every]", _CROSSFIT),
    ),
    *_of(f"{EVALUATION}/fits.py",
        ("first = sum(hidden) % len(order)", "first = 0", _CROSSFIT),
        ("fitted=share_of(turn.fitted, tested)", "fitted=turn.fitted", _CROSSFIT),
        ("fit_of(holdout.sources, one.learned, halves", "fit_of(holdout.sources, turn.fitted, halves", f"{_REFERENCE} {_CROSSFIT}"),
        ("holdout.without(source), one.learned", "holdout.without(source), turn.fitted", f"{_REFERENCE} {_CROSSFIT}"),
        ("holdout.without(source), one.learned", "holdout.sources, one.learned", f"{_REFERENCE} {_CROSSFIT}"),
        ("Sources((source,), one.left_out_sides, halves)", "Sources((source,), one.sides, halves)", _REFERENCE),
        ("for_choice=fit not in tested", "for_choice=False", _CROSSFIT),
        ("len(holdout.without(source)) >=", "len(holdout.sources) >=", "tests/sweep/test_work.py"),
        ("max(MIN_SOURCES, min_sources)", "min_sources", "tests/sweep/test_work.py"),
    ),
    *_of(f"{EVALUATION}/source_scores.py",
        ("np.where(known, accuracies, 0.0).sum(axis=0) / np.maximum(count, 1)", "np.nanmax(accuracies, axis=0)", f"{_REFERENCE} {_CROSSFIT}"),
        ("centres[..., self._place]) * self._weight", "centres[..., self._place] * 0) * self._weight", _CROSSFIT),
        ("centres * (sizes * centres", "0 * (sizes * centres", f"{T_EVALUATION}/test_source_scores.py"),
        ("centres[..., alone] = (sums", "centres[..., alone] = 0 * (sums", f"{T_EVALUATION}/test_source_scores.py"),
        ("self._clusters / (self._clusters - 1) *", "1 *", _CROSSFIT),
        ("        if self._clusters < len(self.label):", "        if False:\n", _CROSSFIT),
        ("(count - 1) / count *", "1 / count *", f"{T_EVALUATION}/test_source_scores.py"),
    ),
    *_of(f"{EVALUATION}/roles.py",
        ("rows &= new if half == \"new\" else ~new", "rows &= ~new", _PROTOCOLS),
        ("roles[self.of_sources(holdout, holdout.sources, self.turn.validation.learned)]", "roles[self.of_sources(holdout, holdout.sources, self.turn.fitted)]", _ROLES),
        ("holdout.validation_sources(self.turn), self.turn.validation", "holdout.sources, self.turn.validation", _ROLES),
        ("            if test.split == split:", "            if test.half == 'all':", _ROLES),
    ),
    *_of("benchmark/commands/interchange/prediction_files.py",
        ("before >= np.bincount(code)[of_line]", "before > np.bincount(code)[of_line]", _IMPORTS),
        ("answers[by_path[~named_by_id]] = classes[~named_by_id]", "answers[by_path[~named_by_id]] = classes[named_by_id]", _IMPORTS),
    ),
    *_of("benchmark/store/records.py",
        ("imported={**record.imported, **dict(imports)}", "imported=record.imported", _IMPORTS),
        ('"imported": earlier.imported}', '"imported": {}}', "tests/store/test_records.py"),
    ),
    *_of("benchmark/store/sealed.py",
        ("if content[at : at + 64] != _digest(content, at, salt):", "if False:", _SEALED),
        ("isinstance(said, dict) and _KEY in said", "False", _SEALED),
    ),
    *_of("benchmark/store/costs.py",
        ("_latest([*known, *new])]", "_latest(new)]", "tests/store/test_costs.py"),
    ),
    *_of(f"{EVALUATION}/cells.py",
        ("if other == environment or their_side != side:", "if other == environment:", _CELLS),
        ("for side in sorted(sides) for half in key[2]", "for side in [0] for half in key[2]", _CELLS),
        ("weight = (their_counts[label] / np.maximum(counts[label], 1))[shared, None]", "weight = np.ones(int(shared.sum()))[:, None]", _CELLS),
    ),
    *_of("benchmark/store/sealed.py",
        ("json.dumps([name, len(table)", "json.dumps([len(table)", _UPKEEP),
        ("digest.update(values.view(np.uint8).data)", "pass", _UPKEEP),
        ("if written != digest.encode():", "if written is None:", _UPKEEP),
        ("hashlib.sha256(salt.encode() + content[:at])", "hashlib.sha256(content[:at])", _UPKEEP),
    ),
    *_of("benchmark/store/embeddings.py",
        ('sound = listed["digest"] == canonical_hash([name, ', 'sound = listed["digest"] != canonical_hash(["", ', _UPKEEP),
        ('{"seed": seed} if intervention.is_random else {}', '{"seed": seed}', _UPKEEP),
        ("if chunks is not None and (lacking", "if False and (lacking", _UPKEEP),
    ),
    *_of("benchmark/store/moments.py",
        ("if state is None or _compared.get(", "if False and _compared.get(", _UPKEEP),
        ("outer[triangle] = outer.T[triangle] = ", "outer[triangle] = ", "tests/sweep/test_summing.py"),
    ),
    *_of("benchmark/store/rows.py",
        ("if others := sorted(trials - {", "if others := sorted(trials & {", "tests/store/test_rows.py"),
    ),
    *_of(
        "benchmark/store/upkeep.py",
        ('stale="the embeddings that it sums up are gone or stale")', 'stale="the embeddings that it sums up are gone or stale" if of_view is None else "")', _UPKEEP),
        ("if version < store.STORE_VERSION:", "if version < store.STORE_VERSION - 1:", _UPKEEP),
    ),
    *_of("benchmark/sweep/imported_predictions.py", ("answered.predicted[rows[order]]", "answered.predicted[rows]", "tests/sweep/test_imported.py")),
    *_of("benchmark/common/code.py",
        ("waiting += _imports(name, modules[name])", "pass", _CODE),
        ('fields["body"] = node.body[1:]', "pass", _CODE),
        ("for n in (name, *_packages_of(name))", "for n in (name,)", _CODE),
        ("{'.' * one.level}", "", _CODE),
        ("if digest not in known:", "if not known:", _CODE),
        ('if kept["version"] == _version() else {}', 'if True else {}', _CODE),
    ),
    *_of("benchmark/datasets/manifest.py",
        ('places["environment_count_distinct"], 1)', 'places["environment_count_distinct"], 2)', "tests/datasets/test_manifest.py"),
    ),
    *_of("benchmark/method/interventions/base.py",
        ("drawn if self.draws_on_host else to_device(drawn, images.device)", "drawn", _DEVICES),
        ("tensor.pin_memory() if pinned else tensor", "tensor", _DEVICES),
        ("view_rng(seed, image_id, what)", "view_rng(0, image_id, what)", _DEVICES),
    ),
    *_of("benchmark/method/interventions/pixels.py",
        ("(0, 1, 2, 3, 0, 1, 2, 0, 3, 1, 0, 2)", "(0, 1, 2, 3, 0, 1, 2, 0, 3, 1, 0)", _DEVICES),
        ("to_device(outside, x.device)", "outside.to(x.device)", _DEVICES),
        ("to_device(padded, x.device)", "padded.to(x.device)", _DEVICES),
    ),
    *_of("benchmark/recipe/specs.py",
        ("return self.seed + draw if kind.is_random else self.seed", "return self.seed + draw", _DRAWS),
    ),
    *_of("benchmark/sweep/subject.py",
        ("view_draw=number % self.interventions.draws)", "view_draw=0)", _DRAWS),
        ("tuple(view.label for view in self.seen if", "tuple(view.label for view in self.views if", _DRAWS),
    ),
    *_of("benchmark/sweep/summing.py",
        ("partners(whole, shuffle.seed", "partners(layout, shuffle.seed", "tests/sweep/test_summing.py"),
        ("if 0 not in there and 0 in (of_halves", "if False and 0 in (of_halves", "tests/sweep/test_summing.py"),
        ("total <= room for total", "total < room for total", "tests/sweep/test_summing.py"),
    ),
    *_of("benchmark/commands/in_memory.py",
        ("PROJECTIONS if views else WITHOUT_VIEWS", "WITHOUT_VIEWS if views else PROJECTIONS", "tests/commands/test_in_memory.py"),
        ("(labels < 0) | (labels >= classes)", "(labels >= classes)", "tests/commands/test_in_memory.py"),
        ("names is None else names", "True else names", "tests/commands/test_in_memory.py"),
    ),
    *_of("benchmark/sweep/search.py",
        ("(subject.at_draw(number), replace(", "(subject, replace(", _DRAWS),
    ),
    *_of("benchmark/sweep/evaluate.py",
        ("setting.at(lambda_=lambda_, seed=spec.seed)", "setting.at(lambda_=lambda_, seed=0)", _EVALUATE),
    ),
    *_of("benchmark/sweep/trials.py",
        ("return Split(self.seed,", "return Split(0,", "tests/recipe/test_recipe.py"),
        ("(ORIGINAL, *labels(s))", "(ORIGINAL, *labels(subject))", "tests/sweep/test_identity_of_trials.py"),
        ('"logit_scale": subject.facts.logit_scale,', "", "tests/sweep/test_identity_of_trials.py"),
        ('            "metric": self.metric.model_dump(mode="json"),\n', "", "tests/recipe/test_recipe.py"),
        ("for fold in range(self.folds)]", "for fold in range(1)]", "tests/sweep/test_work.py"),
    ),
    *_of(f"{PREDICTORS}/probe_with_views.py", ("views=(), labels=labels, environments=environments), 1 / copies", "views=(), labels=labels, environments=environments), 1.0", _VIEWS)),
    *_of(f"{PREDICTORS}/soft_penalty.py",
        ("plain + mu * of_one", "plain + of_one", _VIEWS),
        ("(len(plain) / t)", "(1 / t)", _VIEWS),
    ),
    *_of(f"{PREDICTORS}/mean_of_views.py",
        ("np.mean([unit(z[:, :rank]) for z in views], axis=0)", "np.mean([z[:, :rank] for z in views], axis=0)", _VIEWS),
    ),
    *_of(f"{PREDICTORS}/zero_temperature.py",
        ("in ballots[:kept]", "in ballots", _VIEWS),
        ("slice(kept, None) if kept", "slice(0, None) if kept", _VIEWS),
        ("undecided &= ~decides", "pass", _VIEWS),
    ),
    *_of("benchmark/sweep/loading.py",
        ("logit_scale=subject.facts.logit_scale", "logit_scale=100.0", _EVALUATE),
    ),
    *_of(f"{EVALUATION}/seed_variance.py",
        ("values[inside]) for inside, pairs in self._groups]", "values[inside]) for inside, pairs in self._groups[:1]]", _SEED_VARIANCE),
        ("seed=where.seed - first)", "seed=where.seed % 2)", _SEED_VARIANCE),
        ("MIN_UNITS = 30", "MIN_UNITS = 29", _INFERENCE),
        ("(seeds - 1) / seeds * np.maximum(0, np.array(found))", "np.maximum(0, np.array(found))", _INFERENCE),
        ("np.maximum(0, np.array(found)) / 2 / seeds", "np.maximum(0, np.array(found)) / seeds", _INFERENCE),
        ("np.maximum(0, np.array(found)) / 2 / seeds", "np.maximum(0, np.array(found)) / 2", _INFERENCE),
        ("np.maximum(0, np.array(found))", "np.array(found)", _INFERENCE),
        ("- np.mean(e))", "- 0 * np.mean(e))", _INFERENCE),
        ("[1 / (len(self._rows) * of_part) ** 2 for", "[1e-30 * of_part for", _INFERENCE),
        ("for part in (shared, others)]", "for part in (others, shared)]", _INFERENCE),
        ("np.broadcast_to(1 / (images * len(images)), shape)", "np.broadcast_to(1 / images, shape)", _INFERENCE),
        ("- m[e] * counts_values - m[f] * values_counts + m[e] * m[f] * counts", "", _INFERENCE),
        ("size / (size - 1) * np.maximum(0, of_both)", "np.maximum(0, of_both)", _INFERENCE),
        ("of_both = of_both - 2 * w[e]", "of_both = of_both - 0 * w[e]", _INFERENCE),
        ("(1 if e == f else 2) * w[e]", "1 * w[e]", _INFERENCE),
    ),
    *_of(f"{EVALUATION}/inference.py",
        ("(row - means[cell]) * weights", "row * weights", _INFERENCE),
        ("(row - means[cell]) * weights", "(row - row.mean()) * weights", _INFERENCE),
        ("scores.clusters / max(1, scores.clusters - 1) * np", "np", _INFERENCE),
        ("np.square(scores.added).sum(axis=-1)", "np.square(scores.added).mean(axis=-1)", _INFERENCE),
        ("zip(scores.means.mean(axis=(-2, -1)), v", "zip(scores.means[:, 0].mean(axis=-1), v", _INFERENCE),
        ("return (1 / (self.images.size * self.images)).reshape(-1)[self.cell]", "return np.full(len(self.cell), 1 / len(self.cell))", _INFERENCE),
        ("zip(scores.means.mean(axis=(-2, -1)), v", "zip(np.average(scores.means, axis=-1, weights=scores._where.images[0]).mean(axis=-1), v", _INFERENCE),
        ("images / classes)[of] / n_class", "images / classes)[of]", _INFERENCE),
        ("np.where(n_class > 1, by_class", "np.where(n_class > 0, by_class", _INFERENCE),
        ("np.unique(2 * self.cell + (0 if new is None else new)", "np.unique(2 * self.cell + (0 if new is None else 0 * new)", _INFERENCE),
        ("slope=scores.slope * float(factor.max())", "slope=scores.slope", _INFERENCE),
        ("c = (sets - 1) / sets * moved.T @ moved", "c = moved.T @ moved / sets", _INFERENCE),
        ("(seeds * np.trace(c) - c.sum()) / (seeds * (seeds - 1))", "np.trace(c) / seeds", _INFERENCE),
        ("flat = bool((abs(theta) < _DUST).all())", "flat = True", _INFERENCE),
        ("t_quantile((1 + self.confidence) / 2,", "t_quantile(self.confidence,", _INFERENCE),
        ("t_quantile((1 + self.confidence) / 2, self.degrees_of_freedom)", "normal_quantile((1 + self.confidence) / 2)", _INFERENCE),
        ("2 * t_above(abs", "1 * t_above(abs", _INFERENCE),
        ("2 * t_above(abs(self.estimate / self.standard_error), self.degrees_of_freedom)", "2 * t_above(abs(self.estimate / self.standard_error), 1e9)", _INFERENCE),
        ("v = float(v_image + v_seed)", "v = float(v_image)", _INFERENCE),
        ("v_seed**2 / scores.pairs.freedom", "v_seed**2 / max(1, scores.seeds - 1)", _INFERENCE),
        ("(one.standard_error / k) ** 2", "one.standard_error ** 2 / k", _INFERENCE),
        ("(parts**2 / freedoms)", "(parts / freedoms)", _INFERENCE),
        ("slopes = 2 * np.array([b, a]) ** 2", "slopes = 2 * np.array([a, b]) ** 2", _INFERENCE),
        ("* counts.sum(axis=0) / counts", "* 1.0", _INFERENCE),
        ("np.array([b, a]) ** 2 / (a + b) ** 2", "np.array([b, a]) ** 2 / (a + b)", _INFERENCE),
        ("normal_quantile(0.975) + normal_quantile(0.8)", "normal_quantile(0.95) + normal_quantile(0.8)", _INFERENCE),
        ("t = (margin - abs(interval.estimate))", "t = (margin - interval.estimate)", _INFERENCE),
        ("t = (margin - abs(interval.estimate))", "t = (margin + abs(interval.estimate))", _INFERENCE),
        ("HARMONIC_SLOPE = 2.0", "HARMONIC_SLOPE = 1.0", _INFERENCE),
        ("max(0.0, 1 - margin / interval.slope) ** interval.min_clusters if interval.same else 1.0", "float(abs(interval.estimate) >= margin)", _INFERENCE),
        ("0.0 if flat else np.nan", "0.0", _INFERENCE),
        ("np.nan if v == 0 and np.ptp(estimates) else float(np.sqrt(v))", "float(np.sqrt(v))", _INFERENCE),
        ("values=values, half=new.astype(np.int64), slope=slope", "values=values, slope=slope", _INFERENCE),
        ("clopper_pearson(0, self.min_clusters, self.confidence)[1]", "clopper_pearson(0, self.clusters, self.confidence)[1]", _INFERENCE),
        ("np.std(values, ddof=1)", "np.std(values)", _INFERENCE),
        ("return int(there.sum(axis=1).min())", "return int(there.any(axis=0).sum())", _INFERENCE),
        ("2.0 ** (1 - self.clusters)", "2.0 ** (0 - self.clusters)", _INFERENCE),
        ("return np.nan if self.estimate else 0.0", "return 0.0", _INFERENCE),
        ("return self.standard_error if self.standard_error > 0 else None", "return self.standard_error", _INFERENCE),
        ("scores.values[method] - scores.values[baseline]", "scores.values[baseline] - scores.values[method]", _INFERENCE),
        ("self.means.mean(axis=-2)", "self.means[..., 0, :]", _INFERENCE),
        ("self.seed[inside], self.cluster[inside]", "self.seed[inside], np.arange(inside.sum())", _INFERENCE),
    ),
    *_of(f"{EVALUATION}/inference.py",
        ("min(gained, lost), n, 0.5)", "lost, n, 0.5)", _INFERENCE),
        ("alpha = (1 - confidence) / 2", "alpha = 1 - confidence", _INFERENCE),
    ),
    *_of(f"{EVALUATION}/other_environments.py",
        ("MIN_ENVIRONMENTS = 4", "MIN_ENVIRONMENTS = 3", _OTHERS),
        ("means.std(ddof=1)", "means.std()", _OTHERS),
        ("float(error), n - 1", "float(error), n", _OTHERS),
        ("error = max(means.std(ddof=1) / np.sqrt(n), floor)", "error = means.std(ddof=1) / np.sqrt(n)", _OTHERS),
        ("len(names) - 1\n", "len(effects) - 1\n", _OTHERS),
        ("weights = 1 / (_between(effects, variances, sets) + variances)", "weights = 1 / variances", _OTHERS),
        ("weights = 1 / (_between(means, 1 / total, one) + 1 / total)", "weights = total", _OTHERS),
        ("/ freedom / weights.sum()", "/ weights.sum()", _OTHERS),
        ("freedom = len(effects) - sets.max() - 1", "freedom = len(effects) - 1", _OTHERS),
        ("means = np.bincount(sets, weights=weights * effects) / np.bincount(sets, weights=weights)", "means = np.bincount(sets, weights=effects) / np.bincount(sets)", _OTHERS),
        ("error = max(error, weights.sum() ** -0.5 if known else 0.0)", "", _OTHERS),
        ("variances[seen].min() if seen.any() else otherwise", "1e-12", _OTHERS),
        ("(effects >= ZERO)", "(effects > 0)", _OTHERS),
        ("(effects <= -ZERO)", "(effects < 0)", _OTHERS),
    ),
    *_of(f"{EVALUATION}/multiple_testing.py",
        ("if self.p_both <= ALPHA", "if self.p_metric <= ALPHA and self.p_balanced <= ALPHA and min(metric, balanced) > 0", _TESTING),
        ("metric * balanced < 0", "metric * balanced < -1", _TESTING),
        ("if metric < 0 or balanced < 0", "if metric < 0 and balanced < 0", _TESTING),
        ("np.where(up, p.max(axis=1), 1.0)", "p.max(axis=1)", _TESTING),
        ("unknown.any(axis=1), np.nan", "unknown.all(axis=1), np.nan", _TESTING),
        ("one is None or not one.estimate > 0", "one is None", _TESTING),
        ("(1.0 if np.isnan(p) else p for", "(0.0 if np.isnan(p) else p for", _TESTING),
        ("return max((1.0 if", "return min((1.0 if", _TESTING),
        ("p = holm([p_of_question(parts) for parts in questions.values()])", "p = np.array([p_of_question(parts) for parts in questions.values()])", _TESTING),
        ("(1 - interval.confidence) / max(1, family)", "(1 - interval.confidence)", _TESTING),
        ("and self.gain.metric.estimate > 0", "", _TESTING),
    ),
    *_of(f"{EVALUATION}/multiple_testing.py",
        ("np.arange(len(order), 0, -1)", "len(order)", _RANKS),
        ("np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))", "(p[order] * np.arange(len(order), 0, -1))", _RANKS),
        ("adjusted <= 1 - confidence", "adjusted <= (1 - confidence) / 2", _RANKS),
        ("1 + better.sum(axis=0)", "1 + better.sum(axis=1)", _RANKS),
        ("len(means) - better.sum(axis=1)", "len(means) - better.sum(axis=0)", _RANKS),
        ("~better[best] & comparable", "~better[best]", _RANKS),
        ("~better[best] & comparable", "~better[:, best] & comparable", _RANKS),
        ("and np.nanmax(means) - np.nanmin(means) > 1e-12)", ")", _RANKS),
        ("1 - confidence, differences > 0", "1 - confidence, differences < 0", _RANKS),
        (".argmax()", ".argmin()", _RANKS),
        ("adjusted = holm([one.p for one in differences.values()])", "adjusted = np.array([one.p for one in differences.values()])", _RANKS),
    ),
    *_of("benchmark/results/board.py",
        ("(both - 2 * gram)", "(both - gram)", _BOARD),
        ("clusters / max(1, clusters - 1) * (both", "(both", _BOARD),
        ("np.triu(variance <= _NEAR * both if frame.seeds == 1 else np.full((rows, rows), True), 1)", "np.triu(variance <= _NEAR * both, 1)", _BOARD),
        ("variance <= _NEAR * both if", "variance < 0 if", _BOARD),
        ("np.where(self.estimate == 0, 1.0, 2.0 ** (1 - self.clusters))", "1.0", _BOARD),
        ("if frame.min_clusters < MIN_UNITS:", "if False:", _BOARD),
        ("variance / shared.sum(axis=0) ** 2", "variance / shared.sum(axis=0)", _BOARD),
        ("parts**2 / freedom", "parts / freedom", _BOARD),
        ("for one in entries]).all(axis=0)", "for one in entries]).any(axis=0)", _BOARD),
        ("if len(sets) == most else np.nan", "", _BOARD),
        ("ranks[2][other[(one == best) & np.isnan(self.pairs.estimate)]] = False", "pass", _BOARD),
        ("if len(one.entries) > len(other.entries):", "if len(one.entries) < len(other.entries):", _BOARD),
    ),
    *_of("benchmark/results/answers.py",
        ("for one in differences(_line(heading, *rows[-1]), found):", "for one in differences(found, found):", _CHECK),
        ('every.loc[~new, "label"].nunique()', 'every.loc[new, "label"].nunique()', _PUBLISH),
    ),
    *_of("benchmark/results/checking.py",
        ("if looks and not details.looks_at_target:", "if False:", _CHECK),
        ("if split not in tested:", "if False:", _CHECK),
        ('answers.duplicated(["held_out", "seed", "sample"])', 'answers["sample"].isna()', _CHECK),
        ("if len(stated) == 1 and max(stated) > there:", "if False:", _CHECK),
        ("asked != details.prompts:", "asked is None:", _CHECK),
        ("differences(vars(again.details), vars(one.details), TOLERANCE)", "()", _CHECK),
    ),
    *_of("benchmark/results/records.py",
        ("replace(one.publisher, time=there.time)", "one.publisher", _PUBLISH),
        ("if there.organization != one.publisher.organization:", "if False:", _PUBLISH),
    ),
    *_of("benchmark/results/comparing.py",
        (" and settings.keys().isdisjoint(_EXPERIMENT)", "", "tests/results/test_comparing.py"),
        ("not settings and canonical(record) == canonical(again)", "not settings", "tests/results/test_comparing.py"),
        ("both.drop_duplicates(keep=False)", "both[:0]", "tests/results/test_comparing.py"),
    ),
    *_of("benchmark/embedding/batching.py",
        ("min(count, left)", "count", _BATCHING),
        ("z[row : row + count]", "z[:count]", _BATCHING),
        ("            if count <= 0 or free < 0 or", "            if count <= 0 or", _BATCHING),
        ("                part.waiting.next = part.first\n", "", _BATCHING),
        ("len(running) >= encoder.depth)", "True)", _BATCHING),
        ("sorted({view for part in parts for view", "reversed({view for part in parts for view", _BATCHING)),
    *_of("benchmark/embedding/encoder.py",
        ("source[begin + position % step : end : step]", "source[begin : end : step]",
         "tests/embedding/test_pipeline.py"),
        ("chunk.draws[position][chunk.readable[part.first : part.stop]]", "chunk.draws[position][part.first : part.stop]",
         _BATCHING)),
    *_of("reports/build.py",
        ('key = "" if options.tables or lacks_pdf else key', "", "tests/reports/test_made.py"),
    ),
    *_of("reports/made.py",
        ('if made["key"] != key:', "if not made:", "tests/reports/test_made.py"),
        ("color, built=False) if same else None", "color, built=False)", "tests/reports/test_made.py"),
        ("repr([packages_as_they_are(), *map(", "repr([*map(", "tests/reports/test_made.py"),
    ),
    *_of("benchmark/commands/report.py",
        ("[(name, there.get(name)) for name in trials]]", "[name for name in trials if name in there]]", _UP_TO_DATE),
        ("inputs.append(failures(storage, record.trials) if record else all_failures(storage))", "", _UP_TO_DATE),
        ('storage.files(IMAGES, ".parquet"), ', "", _UP_TO_DATE),
        ("[options, sorted(self.where.items()), self.images, pdf]", "[options, self.images, pdf]", _UP_TO_DATE),
        ("[options, sorted(self.where.items()), self.images, pdf]", "[options, sorted(self.where.items()), self.images]", _UP_TO_DATE),
    ),
    *_of("benchmark/commands/sweep.py",
        ("canonical_hash([first, ", "canonical_hash([", _UP_TO_DATE),
        ("for root in (TESTED, IMAGES) for", "for root in (TESTED,) for", _UP_TO_DATE),
        ("for root in (TESTED, IMAGES) for", "for root in (IMAGES,) for", _UP_TO_DATE),
        ("[(name, there.get(name)) for name in ids]", "ids", _UP_TO_DATE),
    ),
    *_of("benchmark/store/rows.py",
        ("known[name] = Place(table.select(columns), 0, len(table))", "pass", "tests/store/test_row_index.py"),
        ("        write_index(storage, read(), schema())", "        pass", "tests/store/test_row_index.py"),
    ),
    *_of("reports/analysis/selections.py",
        ("return answers if answers is not None and answers.held_outs == names else None", "return answers", _COMPARISONS),
        ("return estimate if estimate is not None and estimate.held_outs == names else None", "return estimate", _TABLES),
        ("weights = picks[weight].astype(np.float64) if weight else np.ones(len(values))", "weights = np.ones(len(values))", _BEHIND),
    ),
    *_of("reports/analysis/metrics.py",
        ("worst_environment=names[int(estimate.means[0].argmin())]", "worst_environment=names[int(estimate.accuracies[0, 0].argmin())]", _BEHIND),
        ("np.flatnonzero(n >= MIN_CLASS_IMAGES)", "np.flatnonzero(n > MIN_CLASS_IMAGES)", _BEHIND),
        ("np.bincount(label[first], minlength=classes)", "np.bincount(label, minlength=classes)", _BEHIND),
        ('ORACLE = "oracle"', 'ORACLE = "ceiling"', _BEHIND),
        ("rules.index(ORACLE), rules.index(rule))", "rules.index(ORACLE), rules.index(ORACLE))", _BEHIND),
        ("float(np.exp(np.log(temperatures).mean()))", "float(temperatures.mean())", _BEHIND),
        ("key=lambda one: (one.accuracy, -one.n)", "key=lambda one: one.accuracy", _BEHIND),
        ("len(line.source)) if above", "len(next(iter(lines.values())).source)) if above", _ROBUSTNESS),
    ),
    *_of("reports/analysis/backbones.py",
        ("if fingerprint != setting.backbone_fingerprint]", "]", _ROBUSTNESS),
        ("np.sqrt(1 + 1 / len(x) + away**2 / spread)", "np.sqrt(1 / len(x) + away**2 / spread)", _ROBUSTNESS),
        ("stdtrit(n - 2, (1 + CONFIDENCE) / 2)", "stdtrit(n - 2, CONFIDENCE)", _ROBUSTNESS),
        ("100 * (target - high), 100 * (target - low)", "100 * (target - low), 100 * (target - high)", _ROBUSTNESS),
        ("self.backbones >= MIN_BACKBONES", "self.backbones > MIN_BACKBONES", _ROBUSTNESS),
        ("(ZERO_SHOT, LINEAR_PROBE) if not setting.random_weights else ()", "(ZERO_SHOT, LINEAR_PROBE)", _ROBUSTNESS),
        ("points.setdefault(key, {})[setting.backbone_fingerprint] = point", "points.setdefault(key, {})[setting.backbone] = point", _ROBUSTNESS),
        ("*shared, tuple(selections.held_outs))", "*shared)", _ROBUSTNESS),
    ),
]  # fmt: skip


def survives(mutation: Mutation, tree: Path) -> bool:
    """Return whether all tests pass with the line changed; `tree` is a copy of the working tree."""
    place = tree / mutation.file
    text = place.read_text(encoding="utf-8")
    if text.count(mutation.right) != 1:
        raise SystemExit(f"{mutation.file}: {text.count(mutation.right)} places have '{mutation.right}'; name one.")
    place.write_text(text.replace(mutation.right, mutation.wrong), encoding="utf-8")
    try:
        exit_code = _tested(tree, mutation.tests)
    finally:
        place.write_text(text, encoding="utf-8")
    if exit_code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED}:
        raise SystemExit(f"{mutation.file}: the tests of '{mutation.wrong}' did not run (exit code {exit_code}).")
    survived = exit_code == pytest.ExitCode.OK
    print(f"{'SURVIVES' if survived else 'noticed '}  {mutation.file}: {mutation.wrong.strip()[:80]}", flush=True)
    return survived


def _tested(tree: Path, tests: Sequence[str]) -> int:
    """Return the exit code of pytest, in a fork that has imported the libraries already, but nothing of this project."""
    pid = os.fork()
    if not pid:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nothing, stream)
        os.chdir(tree)
        sys.path[0] = str(tree)
        for name in [
            name for name in sys.modules if name.partition(".")[0] in {"benchmark", "jobs", "reports", "tests"}
        ]:
            del sys.modules[name]
        os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not long", *tests]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _survivors(mutations: Sequence[Mutation], tree: Path) -> int:
    """Copy the working tree, and return how many of some mutations survive in the copy."""
    ignored = shutil.ignore_patterns(".git", ".venv", "*_cache", "__pycache__", "icm-bench-report")
    shutil.copytree(REPOSITORY, tree, ignore=ignored)
    return sum(survives(mutation, tree) for mutation in mutations)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every mutation; return 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only mutations whose file or line has this word")
    parser.add_argument("--jobs", type=int, default=1, help="how many are tried at a time")
    args = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if args.only in f"{m.file} {m.right}"]
    for name in (*IMPORTED, "ray", "ray.data", "ray.tune"):
        importlib.import_module(name)
    processes = multiprocessing.get_context("fork")  # which have what is imported
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(args.jobs, processes) as pool:
        turns = [chosen[number :: args.jobs] for number in range(args.jobs)]
        survivors = sum(pool.map(_survivors, turns, [Path(folder) / str(number) for number in range(args.jobs)]))
    print(f"{len(chosen)} mutations, {survivors} survivors")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
