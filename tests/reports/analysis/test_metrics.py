"""SYNTHETIC rows: metrics beyond mean accuracy, against hand-computed values."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from benchmark.method.evaluation.metrics import ECE, WORST_ENVIRONMENT
from reports.analysis.backbones import LINEAR_PROBE, ZERO_SHOT, AccuracyLine
from reports.analysis.metrics import Metrics, WorstClass, metrics_csv, metrics_of, per_class_csv, selection_costs
from reports.render.table import Cell, Table
from reports.tables import behind, environments
from tests.reports.synthetic import TESTED, only, results_of, row
from tests.reports.tables.rows import built

ICM: dict[str, Any] = {"projection": "icm", "order": "largest", "lambda_": 1.0, "intervention_set": "all"}

NO_LINES = dict.fromkeys((ZERO_SHOT, LINEAR_PROBE), AccuracyLine())


def metrics(rows: list[dict[str, Any]]) -> list[Metrics]:
    return metrics_of(only(rows)[1], "lodo")


def lines_of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def first_of(table: Table) -> dict[str, Cell]:
    """Return name of a column -> the first method's cell."""
    return dict(zip([column.name for column in table.columns], next(table.lines())[1].cells, strict=True))


def twice(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of two methods, the minimum of a table."""
    return [*rows, *({**one, "projection": "random"} for one in rows)]


def behind_means(rows: list[dict[str, Any]]) -> dict[str, Cell]:
    return first_of(built(behind.TABLE, twice(rows)))


def in_folds(sizes: tuple[int, ...] = (40, 60), **other: Any) -> list[dict[str, Any]]:
    """Return two folds: the first classifies all cats and no dog correctly, the second two thirds of the dogs only.

    In each fold the worst class has 0 %; pooled, cats have 20 of 20 + 30 correct, and dogs 0 + 20 of 20 + 30.
    """
    folds = []
    for fold, n in enumerate(sizes):
        label = np.arange(n) % 2
        correct = label == 0 if fold == 0 else (label == 1) & (np.arange(n) % 6 != 5)
        common: dict[str, Any] = {"folds": 2, "fold": fold, "test_split": "out_fold", "first": 1000 * fold, **other}
        folds.append(row(correct=correct, labels=label.tolist(), **common))
    return folds


def test_folds_of_a_seed_are_pooled() -> None:
    (one,) = metrics(in_folds())
    assert [one.means["target"], one.means["balanced"]] == pytest.approx([40, 40])
    lines = lines_of_csv(per_class_csv(results_of(in_folds())))
    of_classes = [(line["class"], line["accuracy"], line["n"]) for line in lines if line["rule"] == "lodo"]
    assert of_classes == [("cat", "40.0000", "50"), ("dog", "40.0000", "50")]
    assert one.worst_class == WorstClass("cat", "art", 40.0, 50)


def test_a_missing_fold_excludes_its_seed() -> None:
    rows = [*in_folds(), in_folds(seed=1)[0]]
    assert metrics(rows)[0].means["target"] == pytest.approx(40)
    assert metrics(in_folds(seed=1)[:1]) == []


def test_calibration_weighs_folds_by_images_and_environments_equally() -> None:
    rows = []
    for held_out, sizes, errors in (("a", (40, 60), (0.2, 0.1)), ("b", (10, 30), (0.4, 0.0))):
        for fold, part in enumerate(in_folds(sizes, held_out=held_out, temperature_lodo=4.0)):
            rows.append(part | {"ece_lodo": errors[fold], "ece_scaled_lodo": errors[fold] / 2})
    rows[0]["temperature_lodo"] = 1 / 4
    (one,) = metrics(rows)
    expected = np.mean([(40 * 0.2 + 60 * 0.1) / 100, (10 * 0.4 + 30 * 0.0) / 40])
    assert [one.of(ECE), one.ece_scaled] == pytest.approx([100 * expected, 50 * expected])
    assert one.temperature == pytest.approx(4 ** (2 / 4))  # geometric mean of 1/4, 4, 4, 4
    rows[0]["ece_lodo"] = None
    assert metrics(rows)[0].of(ECE) is None


def test_worst_environment_is_a_mean_over_seeds_with_its_source_accuracy() -> None:
    seeds = {0: (0.5, 0.4), 1: (0.5, 0.7)}  # b is worst with seed 0 alone
    rows = [
        row(**ICM, held_out=name, seed=seed, target=[0.1, accuracy], training_domain=[0.2, 0.6 + 0.1 * seed])
        for seed, accuracies in seeds.items()
        for name, accuracy in zip("ab", accuracies, strict=True)
    ]
    (one,) = metrics(rows)
    assert one.worst_environment == "a"
    assert one.of(WORST_ENVIRONMENT) == pytest.approx(50)
    assert one.means["target"] == pytest.approx(52.5)
    assert one.source_accuracy == pytest.approx(65)
    shown = behind_means([one | {"order": None, "projection": "pca"} for one in rows])
    assert [shown[name].value for name in ("accuracy", "source accuracy")] == pytest.approx([52.5, 65])
    assert shown["worst environment"].text == "50.0 (a)"


@pytest.mark.parametrize(("n", "named"), [(10, ("dog", "art", "20.0000", "10")), (9, ("cat", "art", "50.0000", "40"))])
def test_the_worst_class_has_n_and_at_least_ten_images(n: int, named: tuple[str, ...]) -> None:
    label = [0] * 40 + [1] * n
    correct = [*[True, False] * 20, True, True, *[False] * (n - 2)]
    rows = [row(correct=correct, labels=label, seed=seed) for seed in (0, 1)]  # of the same images
    cell = f"{float(named[2]):.1f} ({named[0]}, {named[1]}, n = {named[3]})"
    assert behind_means(rows)["worst class"].text == cell
    (line, *_) = lines_of_csv(metrics_csv([(*only(rows), NO_LINES)]))
    columns = ("worst_class", "worst_class_environment", "worst_class_accuracy", "worst_class_n")
    assert tuple(line[column] for column in columns) == named
    assert metrics([row(n_test=18)])[0].worst_class is None
    assert "worst class" not in behind_means([row(n_test=18)])  # an empty column


def test_ties_for_the_worst_class_go_to_the_larger_class() -> None:
    classes: dict[str, Any] = {"classes": ["cat", "dog", "eel"], "n_classes": 3}
    (one,) = metrics([row(correct=[False] * 42, labels=[0] * 12 + [1] * 20 + [2] * 10, **classes)])
    assert one.worst_class == WorstClass("dog", "art", 0.0, 20)


def test_files_hold_every_rule_and_class_with_their_images() -> None:
    label = [0] * 30 + [1] * 10
    rows = [
        row(
            **ICM, seed=seed, labels=label[: 40 - 10 * seed], correct=[True] * 15 + [False] * (25 - 10 * seed),
            predictor="linear_probe", labels_fit=300 + 100 * seed, labels_choice=80,
        )
        for seed in (0, 1)
    ]  # fmt: skip
    found = lines_of_csv(metrics_csv([(*only(rows), NO_LINES)]))
    assert [line["rule"] for line in found] == ["training_domain", "lodo", "oracle", "ceiling"]
    assert [line["selected_on_target"] for line in found] == ["False", "False", "True", "True"]
    assert {(line["labels_fit"], line["labels_choice"]) for line in found} == {("350", "80")}
    assert found[0]["source_accuracy"] == f"{100 * np.mean([15 / 40, 15 / 30]):.4f}"
    assert found[0]["effective_robustness"] == found[0]["above_zero_shot_line"] == ""
    lodo = [line for line in lines_of_csv(per_class_csv(results_of(rows))) if line["rule"] == "lodo"]
    assert [(line["class"], line["accuracy"], line["n"], line["n_seeds"]) for line in lodo] == [
        ("cat", "50.0000", "30", "2"), ("dog", "0.0000", "10", "2")]  # fmt: skip


def noise() -> list[dict[str, Any]]:
    """Return settings that differ only by chance, in two environments and two seeds."""
    rng = np.random.default_rng(0)
    return [
        row(**ICM | {"lambda_": float(x)}, held_out=name, seed=seed, lodo=[0.5], correct=rng.random(400) < 0.5)
        for name in ("a", "b")
        for seed in (0, 1)
        for x in range(1, 21)
    ]


def test_cost_of_selection_uses_the_cross_fitted_oracle_not_the_ceiling() -> None:
    rows = noise()
    (cost,) = selection_costs(only(rows)[1])
    answers = {
        (r["held_out"], r["seed"], r["lambda_"]): np.unpackbits(np.frombuffer(r["correct"], np.uint8))[:400]
        for r in rows
    }
    crossed, first, highest = [], [], []
    for name in ("a", "b"):
        for seed in (0, 1):
            own = np.array([answers[name, seed, float(x)] for x in range(1, 21)])
            tested = TESTED[rows[0]["tested"] if name == "a" else rows[-1]["tested"]]
            half = tested.halves(seed)
            other = [own[own[:, h].mean(axis=1).argmax()] for h in (half, ~half)]
            crossed.append(np.where(half, other[1], other[0]))
            first.append(own[0])  # lodo scores are equal: the first row
            highest.append(own.mean(axis=1).max())
    assert cost.accuracies["oracle"] == pytest.approx(100 * np.mean(crossed))
    assert cost.accuracies["ceiling"] == pytest.approx(100 * np.mean(highest))
    assert set(cost.gaps) == {"training_domain", "lodo"}
    points, error = cost.gaps["lodo"]
    assert points == pytest.approx(100 * (np.mean(crossed) - np.mean(first)))
    assert error is not None
    assert abs(points) < 2 * error
    assert cost.accuracies["ceiling"] - cost.accuracies["lodo"] > 5  # selected from noise
    # Its standard error with one seed: that of a mean of two independent means of 400 differences.
    ((gap, alone),) = [one.gaps["lodo"] for one in selection_costs(only([r for r in rows if r["seed"] == 0])[1])]
    apart = [np.subtract(crossed[i], first[i], dtype=float) for i in (0, 2)]
    assert gap == pytest.approx(100 * np.mean(apart))
    squares = sum(((d - d.mean()) ** 2).sum() for d in apart) / 800**2 * 800 / 799
    assert alone == pytest.approx(100 * np.sqrt(squares))


def chosen(target: list[np.ndarray], lodo: list[float]) -> dict[str, Cell]:
    """Return column of the table of rules -> cell of a method with several ranks."""
    return first_of(built(behind.SELECTION, twice([row(**ICM, correct=target, target=[0, 0, 0], lodo=lodo)])))


def test_the_value_of_target_labels_is_the_cross_fitted_oracle_minus_the_rule() -> None:
    rng = np.random.default_rng(0)
    right = [rng.random(400) < x for x in (0.5, 0.9, 0.6)]
    cells = chosen(right, [0.1, 0.2, 0.3])
    assert cells["lodo"].value == pytest.approx(100 * right[2].mean())
    assert cells["oracle †"].value == cells["ceiling †"].value == pytest.approx(100 * right[1].mean())
    gained = right[1].astype(float) - right[2]
    gap = cells["oracle − lodo †"]
    assert (gap.value, gap.error) == pytest.approx((100 * gained.mean(), 100 * gained.std(ddof=1) / 20))


def test_the_oracle_gains_nothing_from_noise_but_the_ceiling_does() -> None:
    right = [np.random.default_rng(i).random(100) < 0.5 for i in range(3)]
    cells = chosen(right, [0.3, 0.2, 0.1])
    oracle, ceiling = cells["oracle †"].value, cells["ceiling †"].value
    assert oracle is not None
    assert ceiling is not None
    assert oracle < ceiling == pytest.approx(100 * max(r.mean() for r in right))


def test_worst_environment_and_class_have_their_n_and_their_error() -> None:
    labels = [0] * 60 + [1] * 31 + [2] * 9  # of the last, which is worse, there are too few
    right = [True] * 60 + [True] * 10 + [False] * 21 + [False] * 9
    classes: dict[str, Any] = {"classes": ["cat", "dog", "eel"], "n_classes": 3}
    made = [row(held_out="a", correct=right, labels=labels, **classes), row(held_out="b", target=[0.9], **classes)]
    shown = behind_means(made)
    assert shown["worst environment"].text == "70.0 (a)"
    assert shown["worst class"].text == "32.3 (dog, a, n = 31)"
    worst = first_of(built(environments.TABLE, twice(made)))["worst environment"]
    assert (worst.value, worst.error) == pytest.approx((70, 100 * np.sqrt(0.7 * 0.3 / 99)))
    assert worst.n_images == 100
