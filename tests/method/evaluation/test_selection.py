"""Selection within a rank curve: ties, gaps, and rows against a reading of the rules by hand."""

import functools
import itertools
import math
from operator import add
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.method.evaluation.metrics import CURVES, Answers, harmonic_mean
from benchmark.method.evaluation.selection import (
    RULES,
    SCORES,
    SOURCE_RULES,
    Rows,
    best_point,
    measured,
    packed,
    select,
    source_scores,
    unpacked,
)
from benchmark.method.evaluation.tested import Tested


def best_index(scores: list[float] | None) -> int | None:
    """The position of the highest score (the last one of equals), or None without scores."""
    known = [i for i, score in enumerate(scores or ()) if not math.isnan(score)]
    return max(known, key=lambda i: ((scores or [])[i], i)) if known else None


def test_ties_go_to_the_larger_rank_and_nan_is_no_score() -> None:
    assert best_index([0.5, 0.7, 0.7, 0.1]) == 2
    assert best_index([math.nan, 0.9]) == 1
    assert best_index([math.nan, math.nan]) is None
    assert best_index(None) is None
    assert best_index([]) is None


@pytest.mark.parametrize(
    ("scores", "point"),
    [([[0.1, 0.5], [0.5, 0.2]], (1, 0)), ([[0.5, 0.5], [0.5, 0.5]], (1, 0)), ([[np.nan, 0.1], [0.3, np.nan]], (0, 1))],
)
def test_the_best_of_settings_and_ranks_has_the_larger_rank_then_the_first_setting(
    scores: list[list[float]], point: tuple[int, int]
) -> None:
    assert best_point(np.array(scores)) == point
    assert best_point(np.full((2, 3), np.nan)) is best_point(None) is None


IMAGES = Tested(np.arange(8), np.zeros(8, np.int64), np.arange(8) % 2, ("sketch",))
TESTED = {IMAGES.hash: IMAGES}


def row(correct: np.ndarray, **columns: Any) -> dict[str, Any]:
    """A row of the images above with made-up answers, shape (ranks, 8)."""
    answers = Answers(correct, IMAGES.label, 2)
    return {
        "held_out": "sketch", "seed": 0, "fold": -1, "ranks": [4, 8][: len(correct)], "intervention_set": "all",
        "normalize": "none", "predictor_params": "{}", "projection_params": "{}", "n_test": 8, "tested": IMAGES.hash,
        "class_half": "all", "n_base": 1, "n_classes": 2, "target_out": None,
        **{m.key: np.asarray(m.compute(answers)).tolist() for m in CURVES}, "correct": packed(correct),
        **columns,
    }  # fmt: skip


def hits(*shares: int) -> np.ndarray:
    return np.array([[i < n for i in range(8)] for n in shares])


@pytest.mark.parametrize("grouped", [False, True])
def test_the_oracle_reports_no_image_by_which_it_chose(grouped: bool) -> None:
    """Against a dozen lines: of two settings each half of the images takes the one that is better on the other half."""
    rng = np.random.default_rng(0)
    n = 40
    group = np.repeat(np.arange(n // 4), 4) if grouped else None
    images = Tested(np.arange(n), np.zeros(n, np.int64), rng.integers(3, size=n), ("sketch",), group)
    answers = rng.random((3, 2, n)) < 0.5
    for seed in range(5):
        first = images.halves(seed)
        assert first.sum() in (n // 2, 20)
        if group is not None:
            assert all(len(set(first[group == g])) == 1 for g in set(group))
        rows = [
            row(hits(0, 0), lambda_=float(i), training_domain=[0.0, 0.0], lodo=None)
            | {"correct": packed(correct), "seed": seed, "n_test": n, "tested": images.hash, "n_classes": 3}
            | {m.key: np.asarray(m.compute(Answers(correct, images.label, 3))).tolist() for m in CURVES}
            for i, correct in enumerate(answers)
        ]
        (pick,) = select(pd.DataFrame(rows), "oracle", {images.hash: images}).frame().to_dict("records")
        expected = np.empty(n, dtype=bool)
        for half in (first, ~first):
            best = max(
                ((i, k) for i in range(3) for k in range(2)),
                key=lambda point, half=half: (answers[point][half].mean(), point[1], -point[0]),  # type: ignore[misc]
            )
            expected[~half] = answers[best][~half]
        np.testing.assert_array_equal(pick["correct"], expected)
        assert pick["target"] == expected.mean()
        ceiling = select(pd.DataFrame(rows), "ceiling", {images.hash: images})["target"][0]
        assert ceiling == answers.mean(axis=-1).max() >= pick["target"]
    assert len({images.halves(seed).tobytes() for seed in range(5)}) > 1


def test_what_a_search_sees_is_the_sources_scores_and_nothing_of_the_target() -> None:
    rows = [row(hits(8, 8), training_domain=[0.1, 0.2], lodo=[0.3, 0.25])]
    assert source_scores(rows) == {"training_domain": 0.2, "lodo": 0.3}
    assert source_scores([rows[0] | {"lodo": None}]) == {"training_domain": 0.2}
    folds = [row(hits(3, 2), lambda_=x, training_domain=scores, lodo=scores, fold=fold) for fold, x, scores in (
        (0, 1.0, [0.1, 0.2]), (0, 3.0, [0.3, 0.1]), (1, 1.0, [0.5, 0.1]), (1, 3.0, [0.1, 0.4]))]  # fmt: skip
    assert source_scores(folds) == {"training_domain": pytest.approx(0.4), "lodo": pytest.approx(0.4)}


def test_answers_survive_being_packed() -> None:
    correct = np.random.default_rng(1).random((5, 13)) < 0.5
    columns = {"correct": packed(correct), "ranks": [1, 2, 3, 4, 5], "n_test": 13}
    np.testing.assert_array_equal(unpacked(columns), correct)
    assert len(columns["correct"]) == 5 * 2  # type: ignore[arg-type]


# DomainBed's rules from scratch, on its own kind of records: one for each run and step, with the accuracy on the
# in-split and out-split of every environment. A run is a set of hyper-parameters; steps are what ranks are here.
ENVIRONMENTS, RUNS, STEPS = 4, 6, 5


def domainbed_records(rng: np.random.Generator) -> list[dict[str, Any]]:
    held_outs = [(a,) for a in range(ENVIRONMENTS)] + [(a, b) for b in range(ENVIRONMENTS) for a in range(b)]
    return [
        {"test_envs": test_envs, "run": run, "step": step, "out": rng.random(ENVIRONMENTS),
         "in": rng.integers(1001, size=ENVIRONMENTS) / 1000}  # of a thousand images
        for run, test_envs, step in itertools.product(range(RUNS), held_outs, range(STEPS))
    ]  # fmt: skip


def domainbed_picks(records: list[dict[str, Any]], rule: str, target: int) -> tuple[int, int]:
    """(run, step) that DomainBed's model selection takes for a test environment."""
    alone = [r for r in records if r["test_envs"] == (target,)]
    scores = {}
    for r in alone:
        if rule == "training_domain":  # IIDAccuracySelectionMethod: mean out-accuracy of the training environments
            score = np.mean([r["out"][e] for e in range(ENVIRONMENTS) if e != target])
        elif rule == "ceiling":  # on the test environment; which of its splits is the caller's choice here
            score = r["in"][target]
        else:  # LeaveOneOutSelectionMethod: in-accuracy on the environment that was left out as well
            pairs = [
                p for p in records
                if len(p["test_envs"]) == 2 and target in p["test_envs"] and (p["run"], p["step"]) == (r["run"], r["step"])
            ]  # fmt: skip
            left_out = [next(e for e in p["test_envs"] if e != target) for p in pairs]
            score = np.sum([p["in"][e] for p, e in zip(pairs, left_out, strict=True)]) / (ENVIRONMENTS - 1)
        scores[r["run"], r["step"]] = score
    return max(scores, key=lambda key: scores[key])


@pytest.mark.parametrize("rule", [*SCORES, "ceiling"])
@pytest.mark.parametrize("seed", range(5))
def test_picks_are_those_of_domainbeds_rules(rule: str, seed: int) -> None:
    records = domainbed_records(np.random.default_rng(seed))
    thousand = Tested(np.arange(1000), np.zeros(1000, np.int64), np.arange(1000) % 2, ("one",))
    by_key = {(r["test_envs"], r["run"], r["step"]): r for r in records}
    rows = []
    for target in range(ENVIRONMENTS):
        sources = [e for e in range(ENVIRONMENTS) if e != target]
        for run in range(RUNS):
            of = [by_key[(target,), run, step] for step in range(STEPS)]
            lodo = [[by_key[tuple(sorted((target, s))), run, step]["in"][s] for s in sources] for step in range(STEPS)]
            rows.append(
                row(hits(*[0] * STEPS))
                | {
                    "held_out": f"e{target}", "ranks": list(range(1, STEPS + 1)), "lambda_": float(run),
                    "training_domain": [float(np.mean([r["out"][s] for s in sources])) for r in of],
                    "lodo": [float(np.mean(scores)) for scores in lodo],
                    # DomainBed reports the test environment's in-split.
                    "target": [float(r["in"][target]) for r in of],
                    "correct": packed(np.array([np.arange(1000) < round(1000 * r["in"][target]) for r in of])),
                    "n_test": 1000, "tested": thousand.hash,
                }
            )  # fmt: skip
    picks = select(pd.DataFrame(rows), rule, {thousand.hash: thousand}).frame()
    assert list(picks["held_out"]) == [f"e{e}" for e in range(ENVIRONMENTS)]
    for target, pick in enumerate(picks.to_dict("records")):
        run, step = domainbed_picks(records, rule, target)
        assert (pick["lambda_"], pick["rank"], pick["position"]) == (float(run), step + 1, target * RUNS + run)
        assert pick["target"] == by_key[(target,), run, step]["in"][target]


def test_the_rules_that_search_may_use_look_at_no_target() -> None:
    assert [name for name, rule in RULES.items() if rule.looks_at_target] == ["oracle", "ceiling"]
    assert {RULES[name].score for name in SOURCE_RULES}.isdisjoint(metric.key for metric in CURVES)
    assert all(rule.name == name and rule.meaning for name, rule in RULES.items())


CALIBRATION = ("ece", "ece_scaled", "temperature")


def at_random(rng: np.random.Generator, kind: str) -> tuple[pd.DataFrame, dict[str, Tested]]:
    """Rows of a method whose scores tie often: absent ones, rows without images, settings that some folds lack."""
    folds = [0, 1, 2] if kind in ("folds", "search") else [-1]
    rows, tested = [], {}
    for held_out, seed, fold in itertools.product(("sketch", "art"), (1, 0), folds):
        n = int(rng.integers(9, 30))
        label = np.arange(n) % 4 if kind != "harmonic" else np.sort(np.arange(n) % 4)
        images = Tested(rng.permutation(50)[:n], np.zeros(n, np.int64), label, (held_out,))
        tested[images.hash] = images
        for setting in range(1 if kind == "imported" else 4):
            ranks = [2, 4, 8] if setting < 3 else [8]
            if kind == "search" and rng.random() < 0.3:
                continue
            correct, at = rng.random((len(ranks), n)) < 0.6, rng.integers(0, 3, (4, len(ranks))) / 2
            at[:, rng.random(len(ranks)) < 0.2] = np.nan
            row_ = {
                "held_out": held_out, "seed": seed, "fold": fold, "ranks": ranks, "n_classes": 4, "n_base": 2,
                "lambda_": np.nan if setting == 2 else float(setting), "intervention_set": None if setting else "all",
                "normalize": "none", "predictor_params": "{}", "projection_params": "{}", "n_test": n, "tested": images.hash,
                "class_half": "harmonic" if kind == "harmonic" else "all", "correct": packed(correct),
                "projection": "imported" if kind == "imported" else "icm", "training_domain": at[0].tolist(),
                "lodo": None if rng.random() < 0.2 else at[1].tolist(),
                **dict(zip([f"{name}_lodo" for name in CALIBRATION], rng.random() * np.arange(1.0, 4.0), strict=True)),
                "target_out": at[2].tolist() if kind == "out" else None,
            }  # fmt: skip
            of_ranks = measured([*correct], [images] * len(correct), row_)
            rows.append(row_ | {name: values.tolist() for name, values in of_ranks.items()})
            if rng.random() < 0.1:
                rows[-1]["n_test"] = 0
    return pd.DataFrame([rows[i] for i in rng.permutation(len(rows))]), tested


def by_hand_of(correct: np.ndarray, images: Tested, row_: pd.Series) -> dict[str, float]:
    """The metrics of answers, class by class."""
    new, found = images.label >= row_["n_base"], []
    for half in (~new, new) if row_["class_half"] == "harmonic" else (np.ones(len(new), dtype=bool),):
        of_classes = [correct[half & (images.label == label)].mean() for label in np.unique(images.label[half])]
        accuracy = correct[half].mean() if half.any() else np.nan
        worst, mean = (np.min(of_classes), np.mean(of_classes)) if of_classes else (np.nan, np.nan)
        found.append({"target": accuracy, "balanced": mean, "worst_class": worst})
    if len(found) == 1:
        return found[0]
    (a, b), worst = found, min(of_half["worst_class"] for of_half in found)
    both = {n: 2 * a[n] * b[n] / (a[n] + b[n]) if a[n] + b[n] else 0.0 for n in ("target", "balanced")}
    return {**both, "worst_class": worst}


def by_hand(rows: pd.DataFrame, rule: str, tested: dict[str, Tested], rank: int | None) -> list[tuple[Any, ...]]:
    """(held_out, seed, fold, position, rank, score, answers) of each pick, one choice after the other."""
    records = [{**row, "position": i} for i, row in enumerate(rows.to_dict("records"))]
    records = [row for row in records if row["n_test"] and (rank is None or rank in row["ranks"])]
    crossed, looks = rule == "oracle", RULES[rule].looks_at_target
    lines = []
    for held_out, seed in sorted({(row["held_out"], row["seed"]) for row in records}):
        test = [row for row in records if (row["held_out"], row["seed"]) == (held_out, seed)]
        folds = sorted({row["fold"] for row in test})
        by_setting: dict[str, dict[int, Any]] = {}
        for row in test:
            by_setting.setdefault(f"{row['lambda_']} {row['ranks']}", {})[row["fold"]] = row
        together = looks and all(sorted(setting) == folds for setting in by_setting.values())
        alone = [[{fold: row} for row in test if row["fold"] == fold] for fold in folds]
        for settings in [list(by_setting.values())] if together else alone:
            first = next(iter(settings[0].values()))
            known = not looks or first["target_out"] is not None
            images = functools.reduce(add, (tested[row["tested"]] for _, row in sorted(settings[0].items())))
            half = images.halves(seed) if crossed and not known else np.ones(len(images), dtype=bool)

            def answers(setting: dict[int, Any], index: int) -> Any:
                return np.concatenate([unpacked(row)[index] for _, row in sorted(setting.items())])

            def score(setting: dict[int, Any], index: int, part: Any) -> float:
                if known:  # noqa: B023
                    curve = setting[min(setting)]["target_out" if crossed else RULES[rule].score]
                    return math.nan if curve is None else curve[index]
                correct, new = answers(setting, index), images.label >= 2  # noqa: B023
                if first["class_half"] != "harmonic":  # noqa: B023
                    return float(correct[part].mean())
                return float(harmonic_mean(correct[part & ~new].mean(), correct[part & new].mean()))

            picks = []
            for part in (half, ~half) if crossed and not known else (half,):
                points = [
                    (score(setting, index, part), row_rank, -place, index)
                    for place, setting in enumerate(settings)
                    for index, row_rank in enumerate(setting[min(setting)]["ranks"])
                    if rank in (None, row_rank)
                ]
                picks.append(max((point for point in points if not math.isnan(point[0])), default=None))
            only = len(settings) == 1 and (first["projection"] == "imported" or len(first["ranks"]) == 1)
            if picks[0] is None and known and only:
                curve = first["target_out" if crossed else RULES[rule].score]
                picks = [(curve[0], first["ranks"][0], 0, 0)] if curve is not None else picks
            if None in picks:
                continue
            (value, of_rank, place, index), (*_, other, other_index) = picks[0], picks[-1]  # type: ignore[misc]
            correct = np.where(half, answers(settings[-other], other_index), answers(settings[-place], index))
            if known or not crossed:
                correct = answers(settings[-place], index)
            for fold, row in sorted(settings[-place].items()):
                own, correct = np.split(correct, [row["n_test"]])
                value_ = value if known or not crossed else math.nan
                lines.append((held_out, seed, fold, row["position"], of_rank, value_, own.tolist()))
    return lines


@pytest.mark.parametrize("kind", ["one split", "folds", "search", "harmonic", "out", "imported"])
@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if not rule.one_se])
def test_picks_are_those_of_choosing_one_by_one(kind: str, rule: str) -> None:
    for draw in range(5):
        rows, tested = at_random(np.random.default_rng([draw, len(kind)]), kind)
        looked_at = Rows(rows)
        for rank in (None, 4, 16):
            picks = select(looked_at, rule, tested, rank).frame()
            columns = ["held_out", "seed", "fold", "position", "rank", "score"]
            found = [
                [*line, own.tolist()]
                for line, own in zip(picks[columns].to_numpy().tolist(), picks["correct"], strict=True)
            ]
            assert repr(found) == repr([list(line) for line in by_hand(rows, rule, tested, rank)])
            for pick in picks.to_dict("records"):
                row_ = rows.iloc[pick["position"]]
                expected = by_hand_of(pick["correct"], tested[row_["tested"]], row_)
                assert {name: pick[name] for name in expected} == pytest.approx(expected, abs=1e-12)
                own = row_["ranks"].index(pick["rank"]) == best_index(row_["lodo"])
                known = [row_[f"{name}_lodo"] if rule == "lodo" and own else np.nan for name in CALIBRATION]
                np.testing.assert_array_equal([pick[name] for name in CALIBRATION], known)


def source_rows(rng: np.random.Generator, projection: str, settings: int) -> list[dict[str, Any]]:
    """Rows of one method in two environments and two folds: every setting at the ranks 4 and 8, or at 8 alone."""
    ranks = [8] if projection in ("identity", "fixed") else [4, 8]
    rows = []
    for held_out, fold, setting, normalize in itertools.product("ab", (0, 1), range(settings), ("none", "before")):
        lodo = [math.nan if rng.random() < 0.1 else float(rng.integers(5)) / 4 for _ in ranks]
        columns = {"held_out": held_out, "fold": fold, "normalize": normalize, "predictor_params": str(setting)}
        columns |= {"ranks": ranks, "lodo": lodo, "lodo_se": [float(rng.integers(1, 4)) / 8 for _ in ranks]}
        rows.append({**row(rng.random((len(ranks), 8)) < 0.5), **columns, "projection": projection, "lambda_": 1.0,
                     "training_domain": lodo})  # fmt: skip
    return rows


@pytest.mark.parametrize("projection", ["icm", "identity", "imported", "fixed"])
def test_one_standard_error_keeps_plain_prediction_unless_the_best_is_clearly_ahead(projection: str) -> None:
    """Against choosing one by one; plain prediction itself, imported methods and single candidates are not held back."""
    kept = 0
    for draw in range(20):
        rng = np.random.default_rng(draw)
        own, plain = source_rows(rng, projection, 1 if projection == "fixed" else 3), source_rows(rng, "identity", 2)
        own = [one for one in own if projection != "fixed" or one["normalize"] == "none"]
        both = own + (own if projection == "identity" else plain)
        looked_at = Rows(pd.DataFrame(own), pd.DataFrame(both[len(own) :]))
        picks = select(looked_at, "lodo_1se", TESTED).frame().to_dict("records")
        assert len(picks) == 4
        for pick in picks:
            test = pick["held_out"], pick["fold"]
            mine, theirs = (
                [one for one in rows if (one["held_out"], one["fold"]) == test] for rows in (own, both[len(own) :])
            )
            points = [
                (score, rank, -place, one["lodo_se"][i])
                for place, one in enumerate(mine)
                for i, (score, rank) in enumerate(zip(one["lodo"], one["ranks"], strict=True))
                if not math.isnan(score)
            ]
            if not points:  # one candidate needs no score
                assert (projection, pick["kept_plain"], both[pick["position"]]) == ("fixed", False, mine[0])
                continue
            best, rank, place, error = max(points)
            chosen = mine[-place]
            same = [one for one in theirs if one["normalize"] == chosen["normalize"]]
            of_plain = max((one["lodo"][0] for one in same if not math.isnan(one["lodo"][0])), default=math.nan)
            gated = projection == "icm" and not best - of_plain > error
            kept += gated
            if gated:
                chosen, best, rank = next(one for one in same if one["lodo"][0] == of_plain), of_plain, 8
            assert both[pick["position"]] == chosen
            assert (pick["kept_plain"], pick["rank"], pick["score"]) == (gated, rank, best)
            bits = np.frombuffer(chosen["correct"], np.uint8)[chosen["ranks"].index(rank)]
            assert pick["correct"].tolist() == np.unpackbits(bits).astype(bool).tolist()
    assert (kept > 10) == (projection == "icm")


def test_without_rows_of_plain_prediction_one_standard_error_picks_nothing() -> None:
    rows = Rows(pd.DataFrame(source_rows(np.random.default_rng(0), "icm", 1)))
    assert not len(select(rows, "lodo_1se", TESTED))
    assert len(select(rows, "lodo", TESTED)) == 4
