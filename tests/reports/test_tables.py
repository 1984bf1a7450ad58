"""The numbers of the main table, against hand-computed ones. All rows are synthetic."""

from typing import Any

import numpy as np
import pytest

from benchmark.method.evaluation.metrics import harmonic_mean
from reports.chosen import Selections, hyperparameters, rule_for
from reports.options import Options
from reports.render import latex
from reports.settings import by_setting, suffixes
from reports.tables import Table, main_table, main_tables
from tests.reports.synthetic import TESTED, frame, row


def table(rows: list[dict[str, Any]], rule: str = "lodo", options: Options | None = None) -> Table:
    [(setting, part)] = by_setting(frame(rows))
    return main_table(setting, Selections(part, TESTED), rule, options)


def answers(n: int, *parts: object) -> np.ndarray:
    return np.random.default_rng([ord(str(part)[0]) for part in parts]).random(n) < 0.6


def test_means_and_standard_errors_over_images_with_all_their_answers() -> None:
    n, right = 40, {(h, s): answers(40, h, s) for h in "ab" for s in (0, 1, 2)}
    found = table([row(held_out=h, seed=s, correct=x) for (h, s), x in right.items()])
    a, b, average = found.lines[0].cells
    assert found.columns == ("a", "b", "average")
    of_seeds = {h: [right[h, s].mean() for s in (0, 1, 2)] for h in "ab"}
    assert (a.mean, b.mean) == pytest.approx([100 * np.mean(of_seeds[h]) for h in "ab"])
    assert average.mean == pytest.approx(50 * (np.mean(of_seeds["a"]) + np.mean(of_seeds["b"])))

    def reference(u: np.ndarray, means: np.ndarray) -> float:
        """METHOD.md, section 9: u of shape (seeds, clusters), mean of each seed."""
        clusters, seeds = u.shape[1], len(u)
        factor = clusters / (clusters - 1)
        image = factor * (u.mean(axis=0) ** 2).sum()
        own = [factor * (u[s] ** 2).sum() for s in range(seeds)]
        shared = [factor * (u[s] * u[t]).sum() for s in range(seeds) for t in range(seeds) if s != t]
        return float(np.sqrt(image + max(0.0, means.var(ddof=1) - (np.mean(own) - np.mean(shared))) / seeds))

    u = {h: np.array([(right[h, s] - right[h, s].mean()) / n for s in (0, 1, 2)]) for h in "ab"}
    assert a.stderr == pytest.approx(100 * reference(u["a"], np.array(of_seeds["a"])))
    means = np.mean([of_seeds["a"], of_seeds["b"]], axis=0)
    assert average.stderr == pytest.approx(100 * reference(np.hstack([u["a"], u["b"]]) / 2, means))
    assert (a.n_units, average.n_units, average.n_images, average.seeds) == (40, 80, 80, (0, 1, 2))


def test_a_method_that_looks_at_the_tested_images_is_marked_and_takes_no_bold_from_the_others() -> None:
    worse, better = np.arange(40) < 20, np.arange(40) < 39
    rows = [
        row(projection=projection, order=None, held_out=h, correct=correct)
        for projection, correct in (("identity", worse), ("pca", worse), ("coral", better))
        for h in "ab"
    ]
    with_coral = table(rows)
    assert [(line.method.label, line.cells[-1].best) for line in with_coral.lines] == [
        ("Zero-shot", False), ("PCA + zero-shot", False), ("CORAL ‡ + zero-shot", False)]  # fmt: skip
    assert "‡ fitted at test time" in with_coral.caption
    assert "‡" not in table(rows[:4]).caption
    assert r"CORAL \ddag{} + zero-shot" in latex(with_coral)
    rows[2:4] = [row(projection="pca", order=None, held_out=h, correct=np.arange(40) < 30) for h in "ab"]
    assert [line.cells[-1].best for line in table(rows).lines] == [False, True, False]


def test_a_predictor_that_looks_at_views_of_the_tested_images_is_marked_and_never_bold() -> None:
    rows = [
        row(projection=projection, order=None, predictor=predictor, held_out=h, correct=np.arange(40) < right)
        for predictor, projection, right in (
            ("zero_shot", "identity", 20), ("zero_shot", "pca", 30),
            ("mean_of_views", "identity", 20), ("mean_of_views", "pca", 39),
        )
        for h in "ab"
    ]  # fmt: skip
    made = table(rows)
    assert [(line.method.label, line.cells[-1].best) for line in made.lines] == [
        ("Zero-shot", False), ("PCA + zero-shot", True),
        ("Zero-shot on the mean of views ‡", False), ("PCA + zero-shot on the mean of views ‡", False),
    ]  # fmt: skip
    assert "‡ fitted at test time, on tested images or views of them" in made.caption


def test_a_group_with_images_in_two_environments_counts_once() -> None:
    right = answers(60, "x")
    ungrouped, grouped = (
        table([row(held_out=h, correct=right, groups=g) for h in "ab"]).lines[0].cells[-1]
        for g in (None, list(range(60)))
    )
    assert (ungrouped.n_units, ungrouped.n_images) == (120, 120)
    assert (grouped.n_units, grouped.n_images) == (60, 120)
    p = right.mean()
    assert grouped.stderr == pytest.approx(100 * np.sqrt(p * (1 - p) / 59))
    assert ungrouped.stderr == pytest.approx(100 * np.sqrt(p * (1 - p) / 120 * 120 / 119))


def test_domainbeds_standard_error_over_seeds_on_request() -> None:
    rows = [row(held_out=h, seed=s, target=[x]) for h, s, x in [("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.6)]]
    rows.append(row(held_out="b", seed=1, target=[0.6]))
    found = table(rows, options=Options(plus_minus="seeds"))
    a, b, average = found.lines[0].cells
    # a: 50 and 70, deviation sqrt(200); average: 55 and 65, deviation sqrt(50); divided by sqrt(2)
    assert (a.stderr, average.stderr) == pytest.approx((np.sqrt(100), np.sqrt(25)))
    assert b.stderr is None  # nothing varies: ± 0.0 would be no uncertainty
    assert "over seeds (ddof 1; DomainBed itself divides by their number, ddof 0)" in found.caption


def test_few_images_give_no_standard_error_and_no_bold() -> None:
    rows = [row(n_test=29, target=[0.5]), row(projection="pca", n_test=29, target=[0.9])]
    assert [(line.cells[-1].stderr, line.cells[-1].best) for line in table(rows).lines] == [(None, False)] * 2
    more = [row(n_test=30, target=[0.5]), row(projection="pca", n_test=30, target=[0.9])]
    assert [line.cells[-1].best for line in table(more).lines] == [False, True]


def test_folds_are_pooled_so_that_each_image_counts_once() -> None:
    folds: dict[str, Any] = {"test_split": "out_fold", "folds": 2}
    rows = [row(n_test=30, target=[0.5], fold=0, **folds), row(n_test=90, target=[0.9], fold=1, first=30, **folds)]
    [cell, _] = table(rows).lines[0].cells
    assert cell.mean == pytest.approx(100 * (15 + 81) / 120)
    assert cell.stderr == pytest.approx(100 * np.sqrt(0.8 * 0.2 / 119))
    assert cell.n_images == 120
    caption = table(rows).caption
    assert "2 folds, cut by the seed: each image is tested once" in caption
    assert "fits without the tested fold and the next" in caption
    half = table(rows[:1])
    assert half.lines[0].cells[0].mean is None  # a fold is missing: no mean over all images


def test_each_rule_picks_by_its_own_score() -> None:
    right = [answers(100, x) for x in "pqr"]
    rows = [row(projection="pca", target=[0, 0, 0], correct=right, training_domain=[0.1, 0.8, 0.2], lodo=[0.1, 0.2, 1])]
    by_rule = {r: table(rows, r).lines[0].cells[0].mean for r in ("training_domain", "lodo", "ceiling", "oracle")}
    share = [100 * x.mean() for x in right]
    assert by_rule["training_domain"] == pytest.approx(share[1])
    assert by_rule["lodo"] == pytest.approx(share[2])
    assert by_rule["ceiling"] == pytest.approx(max(share))
    # Each half of the images as the other half chose: never above the ceiling.
    first = TESTED[rows[0]["tested"]].halves(0)
    picked = [max(range(3), key=lambda k: (right[k][half].mean(), k)) for half in (first, ~first)]
    hits = right[picked[1]][first].sum() + right[picked[0]][~first].sum()
    assert by_rule["oracle"] == pytest.approx(hits)


def test_rules_agree_where_there_is_nothing_to_choose() -> None:
    [(setting, part)] = by_setting(frame([row(target=[0.4])]))
    made = main_tables(setting, Selections(part, TESTED), Options())
    assert [t.rule for t in made] == ["training_domain", "lodo", "oracle", "ceiling"]
    assert {t.lines[0].cells[0].mean for t in made} == {40.0}


def test_bold_is_whatever_is_not_separated_from_the_best_of_its_predictor() -> None:
    right = answers(200, "x")
    other = right.copy()
    other[:3] = ~other[:3]  # three answers in 200 are nothing
    made = [
        row(target=[0.3], n_test=200),
        row(projection="pca", correct=right),
        row(projection="icm", order="largest", correct=other),
        row(predictor="linear_probe", target=[0.3], n_test=200),
        row(predictor="linear_probe", projection="pca", target=[0.9], n_test=200),
        row(predictor="ridge", correct=right),
    ]
    marked = {line.method.label: line.cells[-1].best for line in table(made).lines}
    assert marked == {
        "Zero-shot": False,
        "PCA + zero-shot": True,
        "CLIP-ICM (largest) + zero-shot": True,
        "Linear probe": False,
        "PCA + linear probe": True,
        "Ridge probe": False,  # no rival
    }
    assert "Bold: not separated from the best" in table(made).caption
    bounds = [table(made, "oracle"), table(made, "ceiling"), table([{**r, "protocol": "in_domain"} for r in made])]
    for bound in bounds:
        assert not any(cell.best for line in bound.lines for cell in line.cells)
        assert all(cell.bound for line in bound.lines for cell in line.cells)
        assert "Bold" not in bound.caption


def test_what_the_shift_costs_is_a_column_where_the_same_data_are_fitted_on() -> None:
    right = {("held_out", "a"): 0.5, ("held_out", "b"): 0.6, ("in_domain", "a"): 0.8, ("in_domain", "b"): 0.7}
    rows = [
        row(protocol=p, held_out=h, target=[x], lodo=None if p == "in_domain" else ()) for (p, h), x in right.items()
    ]
    rows.append(row(projection="pca", held_out="a"))
    (setting, held_out), (_, in_domain) = ((s, Selections(part, TESTED)) for s, part in by_setting(frame(rows)))
    found = main_table(setting, held_out, "lodo", in_domain=in_domain)
    assert found.columns == ("a", "b", "average", "shift costs")
    plain, pca = (line.cells[-1] for line in found.lines)
    assert plain.mean == pytest.approx(20)
    gained = np.array([0.3 * 0.7, 0.1 * 0.9]) / 100  # variance of the paired difference in each environment
    assert plain.stderr == pytest.approx(100 * np.sqrt(gained.sum() / 4 * 200 / 199))
    assert plain.bound
    assert not plain.best
    assert pca.mean is None
    assert "Shift costs †" in found.caption
    bound = main_table(setting, held_out, "oracle", in_domain=in_domain)
    assert bound.columns == ("a", "b", "average")
    assert "Shift costs" not in bound.caption


def test_harmonic_means_have_an_error_over_base_and_new_images_together() -> None:
    right = np.concatenate([answers(300, "b"), answers(300, "n") & answers(300, "m")])
    [cell, _] = table([row(class_half="harmonic", correct=right, protocol="held_out_open_class")]).lines[0].cells
    a, b = right[:300].mean(), right[300:].mean()
    assert cell.mean == pytest.approx(100 * harmonic_mean(a, b))
    rng = np.random.default_rng(0)
    draws = rng.binomial(300, [a, b], size=(20_000, 2)) / 300
    assert cell.stderr == pytest.approx(100 * harmonic_mean(*draws.T).std(), rel=0.03)


def test_gaps_say_why() -> None:
    rows = [
        row(held_out="a"),
        row(held_out="b"),
        row(projection="pca", held_out="a", lodo=None),
        row(held_out="a", seed=1),
    ]
    plain, pca = table(rows).lines
    assert plain.cells[1].note == "1 of 2 seeds"
    assert "lodo is undefined" in str(pca.cells[0].note)
    assert "no result row" in str(pca.cells[1].note)
    assert pca.cells[2].mean is None
    assert "a, b" in str(pca.cells[2].note)


def test_a_missing_fold_is_said_to_be_missing() -> None:
    folds: dict[str, Any] = {"test_split": "out_fold", "folds": 3}
    rows = [row(held_out=h, fold=f, **folds) for h in "ab" for f in range(3) if (h, f) != ("b", 1)]
    line = table(rows).lines[0]
    assert line.cells[0].note is None
    assert line.cells[1].note == "2 of 3 folds"
    rows = [row(held_out="a", fold=f, lodo=None, **folds) for f in range(3)]
    assert "lodo is undefined" in str(table(rows).lines[0].cells[0].note)


def test_what_the_oracle_chooses_by_is_that_of_the_split() -> None:
    half, out = "chosen on one half of the tested images", "chosen on the out-split of the held-out environment, which"
    for rows, wanted, other in (([row()], half, out), ([row(test_split="in_80")], out, half)):
        caption = table(rows, "oracle").caption
        assert f"Selection rule oracle: † {wanted}" in caption
        assert other not in caption
    assert half not in table([row(test_split="in_80")]).caption


def test_groups_that_judged_and_are_tested_are_warned_of() -> None:
    groups = list(range(100))
    assert "were seen in training and in choosing" in table([row(groups=groups, test_split="full")]).caption
    assert "were seen in training (in" in table([row(groups=groups, test_split="in_80")]).caption


def test_average_uses_only_seeds_with_every_environment() -> None:
    rows = [
        row(held_out="a", seed=0, target=[0.2]),
        row(held_out="b", seed=0, target=[0.4]),
        row(held_out="a", seed=1, target=[1.0]),
    ]
    average = table(rows).lines[0].cells[-1]
    assert average.mean == pytest.approx(30)
    assert (average.seeds, average.note) == ((0,), "1 of 2 seeds")


def test_cells_know_the_sources_and_the_labels() -> None:
    rows = [
        row(held_out=h, target=[0.5], training_domain=[x], labels_fit=80, labels_choice=20)
        for h, x in zip("ab", (0.7, 0.9), strict=True)
    ]
    a, _, average = table(rows).lines[0].cells
    assert (a.source, average.source) == pytest.approx((70, 80))
    assert (a.labels_fit, a.labels_choice, average.labels_fit) == (80, 20, 80)


def test_caption_says_what_the_numbers_are() -> None:
    rows = [
        row(
            held_out=h, seed=s, n_test=n, groups=[i // 2 for i in range(n)], test_split="full", lambda_=x,
            intervention_set="all", interventions='{"kinds": [{"name": "grayscale"}], "text": null}',
        )
        for h, s, n, x in [("a", 0, 100, 1.0), ("a", 1, 101, 10.0)]
    ]  # fmt: skip
    caption = table(rows).caption
    for words in (
        "Selection rule lodo: ", "synthetic", "ViT-B-32, fp32", "Protocol held_out",
        "full: all images of the held-out environment", "Seeds: 0, 1", "one standard error over groups of test images",
        "a 50.5 (100.5). n counts groups", "Training images: 1,000", '"a photo of a {}."',
        "tested on its half of the out-groups", "Split by group", "WARNING",
        "lambda 1, 10", "intervention sets all", "normalize none", "drawn once: their variance is not in the ±",
    ):  # fmt: skip
        assert words in caption
    safe = table([row(groups=list(range(100)), test_split="out_20")]).caption
    assert "WARNING" not in safe
    assert "Variation between seeds is not in it" in safe
    assert "drawn once" not in safe  # no interventions, no views
    assert "in-split (80 %), as in DomainBed" in table([row()]).caption


def test_caption_says_what_stands_in_two_environments_and_whose_captions_fits_see() -> None:
    text = '{"kinds": [{"name": "text"}], "text": {"pairs": "pairs.jsonl"}}'
    caption = table([row(n_shared=12, interventions=text)]).caption
    assert "12 images stand byte by byte in two environments." in caption
    assert "those without an image_id belong to no image and are seen by every fit" in caption
    assert "drawn once" not in caption
    templates = '{"kinds": [{"name": "text"}], "text": {"pairs": null}}'
    assert "image_id" not in table([row(interventions=templates)]).caption


def test_a_single_source_environment_has_one_rule() -> None:
    [(setting, part)] = by_setting(frame([row(lodo=None, n_sources=1)]))
    made = main_tables(setting, Selections(part, TESTED), Options())
    assert [t.rule for t in made] == ["training_domain", "oracle", "ceiling"]
    assert "leaving it out leaves nothing, so only training_domain chooses" in made[0].caption


def test_only_heads_that_learn_classes_from_images_are_said_to_miss_new_ones() -> None:
    open_class: dict[str, Any] = {"protocol": "open_class", "class_half": "new", "rounding": "ceil", "n_classes": 3}
    open_class |= {"n_base": 2, "classes": ["cat", "dog", "eel"]}
    rows = [row(predictor=p, **open_class) for p in ("zero_shot", "tip_adapter", "ridge", "linear_probe")]
    caption = table(rows).caption
    assert "Base classes: the first 2 of 3, half of them rounded up." in caption
    assert "(linear probe, ridge probe) never predict one they have not seen: 0 %" in caption
    assert "never predict" not in table(rows[:2]).caption


def test_rows_that_differ_in_protocol_never_share_a_table() -> None:
    others: list[dict[str, Any]] = [
        {"test_split": "full"}, {"precision": "fp16"}, {"prompts": '["{}"]'}, {"folds": 5, "fold": 0},
        {"rounding": "floor"},
    ]  # fmt: skip
    parts = by_setting(frame([row(), *(row(**other) for other in others)]))
    assert [len(part) for _, part in parts] == [1] * 6
    assert suffixes([s for s, _ in parts])[:2] == ["-synthetic-ViT-B-32-full", "-synthetic-ViT-B-32-out_20"]
    assert len(set(suffixes([s for s, _ in parts]))) == 6


def test_hyperparameters_list_what_was_chosen_and_skip_methods_without_a_choice() -> None:
    icm: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all"}
    rows = [
        row(),
        row(seed=1),
        row(**icm, lambda_=1.0, target=[0.1, 0.9, 0.2]),
        row(**icm, lambda_=10.0, target=[0.1, 0.3, 0.2]),
        row(**icm, lambda_=1.0, target=[0.1, 0.3, 0.2], seed=1),
        row(
            **icm,
            lambda_=10.0,
            target=[0.1, 0.3, 0.9],
            seed=1,
            predictor_params='{"c": 1}',
            projection_params='{"k": 2}',
        ),
    ]
    lines = hyperparameters(Selections(frame(rows), TESTED))
    assert [line[1] for line in lines] == ["training_domain", "lodo", "oracle †", "ceiling †"]
    assert lines[0][2:] == ["art", "0 1", "3", "2, 4", "1, 10", "all", "none", '{}, {"c": 1}', '{}, {"k": 2}']


def test_findings_rule_is_lodo_only_if_there_is_one_wherever_something_was_tested() -> None:
    assert rule_for(frame([row()])) == "lodo"
    assert rule_for(frame([row(lodo=None), row(projection="pca", lodo=None)])) == "training_domain"
    assert rule_for(frame([row(), row(seed=1, lodo=None)])) == "training_domain"
    # One source less is too few for some of what it chooses among: those rows are not chosen.
    assert rule_for(frame([row(), row(lambda_=2.0, lodo=None)])) == "lodo"
