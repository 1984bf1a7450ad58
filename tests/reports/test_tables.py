"""Numbers of tables against hand-computed ones, and notes of tables. All rows are synthetic."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from benchmark.method.evaluation.metrics import harmonic_mean
from benchmark.method.evaluation.selection import RULES
from reports.analysis.metrics import selection_costs
from reports.analysis.selections import SettingResults, pick_records, rule_for
from reports.analysis.settings import Options
from reports.render.table import Cell, Line, Table
from reports.tables import cells, environments, words
from reports.tables.spec import groups
from reports.text.captions import protocol_words, rule_words
from tests.reports.synthetic import TESTED, frame, only, results_of, row
from tests.reports.tables.rows import built, table_of


def cells_of(rows: list[dict[str, Any]], rule: str = "lodo", options: Options | None = None) -> list[list[Cell]]:
    """Return the cells of each method: each held-out environment, then the average."""
    _, selections = only(rows)
    names = [*sorted({str(one["held_out"]) for one in rows}), None]
    return [
        [cells.accuracy(selections, method, rule, options or Options(), name).cell for name in names]
        for method in selections.parts
    ]


def table(rows: list[dict[str, Any]], rule: str | None = "lodo", report: Sequence[SettingResults] = ()) -> Table:
    return built(environments.TABLE, rows, rule, report=report)


def average(found: Table, line: Line) -> Cell:
    return line.cells[[column.name for column in found.columns].index("average")]


def bold(found: Table) -> list[tuple[str, bool]]:
    """Return (method, whether the average is bold); environments are never bold."""
    assert sum(cell.best for _, line in found.lines() for cell in line.cells) == sum(
        average(found, line).best for _, line in found.lines()
    )
    return [(line.name, average(found, line).best) for _, line in found.lines()]


def said(rows: list[dict[str, Any]], rule: str = "lodo", options: Options | None = None) -> str:
    """Return notes and details of a table as one text."""
    parts, options = results_of(rows), options or Options()
    return " ".join([*words.notes(parts, rule, options, ()), *words.details(parts, options)])


def answers(n: int, *parts: object) -> np.ndarray:
    return np.random.default_rng([ord(str(part)[0]) for part in parts]).random(n) < 0.6


def test_means_and_standard_errors_over_images_with_all_their_answers() -> None:
    n, right = 40, {(h, s): answers(40, h, s) for h in "ab" for s in (0, 1, 2)}
    [[a, b, whole]] = cells_of([row(held_out=h, seed=s, correct=x) for (h, s), x in right.items()])
    of_seeds = {h: [right[h, s].mean() for s in (0, 1, 2)] for h in "ab"}
    assert (a.value, b.value) == pytest.approx([100 * np.mean(of_seeds[h]) for h in "ab"])
    assert whole.value == pytest.approx(50 * (np.mean(of_seeds["a"]) + np.mean(of_seeds["b"])))

    def reference(u: np.ndarray, means: np.ndarray) -> float:
        """METHOD.md, section 9: u of shape (seeds, clusters), mean of each seed."""
        clusters, seeds = u.shape[1], len(u)
        factor = clusters / (clusters - 1)
        image = factor * (u.mean(axis=0) ** 2).sum()
        own = [factor * (u[s] ** 2).sum() for s in range(seeds)]
        shared = [factor * (u[s] * u[t]).sum() for s in range(seeds) for t in range(seeds) if s != t]
        return float(np.sqrt(image + max(0.0, means.var(ddof=1) - (np.mean(own) - np.mean(shared))) / seeds))

    u = {h: np.array([(right[h, s] - right[h, s].mean()) / n for s in (0, 1, 2)]) for h in "ab"}
    assert a.error == pytest.approx(100 * reference(u["a"], np.array(of_seeds["a"])))
    means = np.mean([of_seeds["a"], of_seeds["b"]], axis=0)
    assert whole.error == pytest.approx(100 * reference(np.hstack([u["a"], u["b"]]) / 2, means))
    assert (a.spread, whole.spread) == pytest.approx((100 * np.std(of_seeds["a"], ddof=1), 100 * means.std(ddof=1)))
    assert (a.n_clusters, whole.n_clusters, whole.n_images, whole.seeds) == (40, 80, 80, (0, 1, 2))


def test_a_method_that_looks_at_the_tested_images_is_marked_and_takes_no_bold_from_the_others() -> None:
    worse, better = np.arange(40) < 20, np.arange(40) < 39
    rows = [row(projection=projection, order=None, held_out=h, correct=correct) for projection, correct in
            (("identity", worse), ("pca", worse), ("coral", better)) for h in "ab"]  # fmt: skip
    with_coral = table(rows)
    assert bold(with_coral) == [("Zero-shot", False), ("PCA + zero-shot", False), ("CORAL ‡ + zero-shot", False)]
    assert "‡ fitted at test time" in " ".join(with_coral.notes)
    assert "‡" not in " ".join(table(rows[:4]).notes)
    rows[2:4] = [row(projection="pca", order=None, held_out=h, correct=np.arange(40) < 30) for h in "ab"]
    assert [best for _, best in bold(table(rows))] == [False, True, False]


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
    assert bold(made) == [
        ("Zero-shot", False), ("PCA + zero-shot", True),
        ("Zero-shot on the mean of views ‡", False), ("PCA + zero-shot on the mean of views ‡", False),
    ]  # fmt: skip
    assert "‡ fitted at test time, on tested images or views of them" in " ".join(made.notes)


def test_a_group_with_images_in_two_environments_counts_once() -> None:
    right = answers(60, "x")
    ungrouped, grouped = (
        cells_of([row(held_out=h, correct=right, groups=g) for h in "ab"])[0][-1] for g in (None, list(range(60)))
    )
    assert (ungrouped.n_clusters, ungrouped.n_images) == (120, 120)
    assert (grouped.n_clusters, grouped.n_images) == (60, 120)
    p = right.mean()
    assert grouped.error == pytest.approx(100 * np.sqrt(p * (1 - p) / 59))
    assert ungrouped.error == pytest.approx(100 * np.sqrt(p * (1 - p) / 120 * 120 / 119))


def test_domainbeds_standard_error_over_seeds_on_request() -> None:
    rows = [row(held_out=h, seed=s, target=[x]) for h, s, x in [("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.6)]]
    rows.append(row(held_out="b", seed=1, target=[0.6]))
    options = Options(plus_minus="seeds")
    [[a, b, whole]] = cells_of(rows, options=options)
    # a: 50 and 70, deviation sqrt(200); average: 55 and 65, deviation sqrt(50); divided by sqrt(2)
    assert (a.error, whole.error) == pytest.approx((np.sqrt(100), np.sqrt(25)))
    assert b.error is None  # no variation: ± 0.0 would claim no uncertainty
    assert "over seeds (ddof 1; DomainBed itself divides by their number, ddof 0)" in said(rows, options=options)


def test_few_images_give_neither_a_standard_error_nor_an_interval_nor_bold() -> None:
    def of(n: int) -> list[dict[str, Any]]:
        return [row(held_out=h, projection=p, n_test=n, target=[x]) for h in "ab"
                for p, x in (("identity", 0.5), ("pca", 0.9))]  # fmt: skip

    assert [best for _, best in bold(table(of(29)))] == [False, False]
    for single in cells_of(of(29)):
        assert [(cell.error, cell.low, cell.high) for cell in single] == [(None, None, None)] * 3
    assert [best for _, best in bold(table(of(30)))] == [False, True]
    assert None not in [cell.error for single in cells_of(of(30)) for cell in single]


def test_folds_are_pooled_so_that_each_image_counts_once() -> None:
    folds: dict[str, Any] = {"test_split": "out_fold", "folds": 2}
    rows = [row(n_test=30, target=[0.5], fold=0, **folds), row(n_test=90, target=[0.9], fold=1, first=30, **folds)]
    [[cell, _]] = cells_of(rows)
    assert cell.value == pytest.approx(100 * (15 + 81) / 120)
    assert cell.error == pytest.approx(100 * np.sqrt(0.8 * 0.2 / 119))
    assert (cell.n_images, cell.folds) == (120, 2)
    assert "2 folds, cut by the seed: each image is tested once" in said(rows)
    assert "validates fits without it and the tested one" in said(rows)
    [[half, _]] = cells_of(rows[:1])
    assert half.value is None  # a fold is missing: no mean over all images


def test_each_rule_picks_by_its_own_score() -> None:
    right = [answers(100, x) for x in "pqr"]
    rows = [row(projection="pca", target=[0, 0, 0], correct=right, training_domain=[0.1, 0.8, 0.2], lodo=[0.1, 0.2, 1])]
    by_rule = {rule: cells_of(rows, rule)[0][0].value for rule in RULES}
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
    assert {rule: cells_of([row(target=[0.4])], rule)[0][0].value for rule in RULES} == dict.fromkeys(RULES, 40.0)


def test_bold_is_whatever_is_not_separated_from_the_best_of_its_predictor() -> None:
    right = answers(200, "x")
    other = right.copy()
    other[:3] = ~other[:3]  # a difference of three images in 200 is not significant
    methods: list[dict[str, Any]] = [
        {"target": [0.3], "n_test": 200},
        {"projection": "pca", "correct": right},
        {"projection": "icm", "order": "largest", "correct": other},
        {"predictor": "linear_probe", "target": [0.3], "n_test": 200},
        {"predictor": "linear_probe", "projection": "pca", "target": [0.9], "n_test": 200},
        {"predictor": "ridge", "correct": right},
    ]
    made = [row(held_out=h, **method) for method in methods for h in "ab"]
    found = table(made)
    assert dict(bold(found)) == {
        "Zero-shot": False,
        "PCA + zero-shot": True,
        "CLIP-ICM + zero-shot": True,
        "Linear probe": False,
        "PCA + linear probe": True,
        "Ridge probe": False,  # no rival
    }
    assert [block.title for block in found.blocks] == ["zero-shot", "linear probe", "ridge probe"]
    assert any(note.startswith("Bold: not separated from the best of its block") for note in found.notes)
    bounds = [table(made, "oracle"), table(made, "ceiling"), table([{**r, "protocol": "in_domain"} for r in made])]
    for bound in bounds:
        assert not any(cell.best for _, line in bound.lines() for cell in line.cells)
        assert all(cell.bound for _, line in bound.lines() for cell in line.cells)
        assert not any("bold" in note.lower() for note in bound.notes)
    tied = [row(held_out=h, projection=p, target=[x]) for h in "ab" for p, x in (("identity", 0.5), ("pca", 0.51))]
    assert any(note.startswith("Nothing is bold if all methods of a block") for note in table(tied).notes)
    assert not any("bold" in note.lower() for note in table(tied, "oracle").notes)


def test_what_the_shift_costs_is_a_column_where_the_same_data_are_fitted_on() -> None:
    right = {("held_out", "a"): 0.5, ("held_out", "b"): 0.6, ("in_domain", "a"): 0.8, ("in_domain", "b"): 0.7}
    rows = [
        row(protocol=p, held_out=h, target=[x], lodo=None if p == "in_domain" else ()) for (p, h), x in right.items()
    ]
    rows.append(row(projection="pca", held_out="a"))
    held_out, within = ([r for r in rows if r["protocol"] == name] for name in ("held_out", "in_domain"))
    found = table(held_out, report=results_of(within))
    assert [column.name for column in found.columns] == ["a", "b", "average", "worst environment", "shift costs"]
    assert found.columns[-1].heading == "Shift costs †"
    plain, pca = (line.cells[-1] for _, line in found.lines())
    assert plain.value == pytest.approx(20)
    gained = np.array([0.3 * 0.7, 0.1 * 0.9]) / 100  # variance of the paired difference in each environment
    assert plain.error == pytest.approx(100 * np.sqrt(gained.sum() / 4 * 200 / 199))
    assert (plain.bound, plain.signed, plain.best) == (True, True, False)
    assert pca.value is None
    assert any(note.startswith("Shift costs †") and "rule training_domain" in note for note in found.notes)
    for bound in (table(held_out, "oracle", results_of(within)), table(within + [  # of bounds there is no shift
        row(protocol="in_domain", projection="pca", held_out=h, lodo=None) for h in "ab"], "training_domain",
        results_of(within))):  # fmt: skip
        assert "shift costs" not in [column.name for column in bound.columns]
        assert not any("Shift costs" in note for note in bound.notes)


def test_what_the_shift_costs_has_no_error_where_the_seeds_differ() -> None:
    held_out = [row(held_out=h, seed=s, target=[0.5]) for h in "ab" for s in (0, 1)]
    held_out += [row(held_out=h, seed=s, projection="pca", target=[0.4]) for h in "ab" for s in (0, 1)]
    within = [row(protocol="in_domain", held_out=h, target=[0.8], lodo=None) for h in "ab"]
    (_, plain), _ = table(held_out, report=results_of(within)).lines()
    cell = plain.cells[-1]
    assert cell.value == pytest.approx(30)
    assert (cell.error, cell.low, cell.bound, cell.signed) == (None, None, True, True)


def test_where_the_sources_leave_nothing_to_choose_by_bounds_are_chosen_by_the_oracle() -> None:
    more: dict[str, Any] = {"protocol": "in_domain", "training_domain": [np.nan], "lodo": None}
    rows = [
        row(held_out=h, projection=p, target=[x], **more) for h in "ab" for p, x in (("identity", 0.5), ("pca", 0.6))
    ]
    made = table(rows, None)
    assert made.context["rule"] == "oracle"
    assert [average(made, line).value for _, line in made.lines()] == pytest.approx([50, 60])
    assert all(cell.bound for _, line in made.lines() for cell in line.cells)
    assert "The sources leave nothing to choose by: only rules that look at the target (†) choose." in made.details
    scored = table([{**one, "training_domain": [0.5]} for one in rows], None)
    assert scored.context["rule"] == "training_domain"


def test_harmonic_means_have_an_error_over_base_and_new_images_together() -> None:
    right = np.concatenate([answers(300, "b"), answers(300, "n") & answers(300, "m")])
    [[cell, _]] = cells_of([row(class_half="harmonic", correct=right, protocol="held_out_open_class")])
    a, b = right[:300].mean(), right[300:].mean()
    assert cell.value == pytest.approx(100 * harmonic_mean(a, b))
    rng = np.random.default_rng(0)
    draws = rng.binomial(300, [a, b], size=(20_000, 2)) / 300
    assert cell.error == pytest.approx(100 * harmonic_mean(*draws.T).std(), rel=0.03)


def test_gaps_say_why() -> None:
    rows = [row(held_out="a"), row(held_out="b"), row(projection="pca", held_out="a", lodo=None),
            row(held_out="a", seed=1), row(projection="random", held_out="a")]  # fmt: skip
    plain, pca, random = cells_of(rows)
    assert random[0].value == 50
    assert (random[2].value, random[2].note) == (None, "no average: nothing for b")
    assert plain[1].note == "1 of 2 seeds"
    assert "lodo is undefined" in str(pca[0].note)
    assert "no result row" in str(pca[1].note)
    assert pca[2].value is None
    assert "a, b" in str(pca[2].note)


def test_a_missing_fold_is_said_to_be_missing() -> None:
    folds: dict[str, Any] = {"test_split": "out_fold", "folds": 3}
    rows = [row(held_out=h, fold=f, **folds) for h in "ab" for f in range(3) if (h, f) != ("b", 1)]
    [[a, b, _]] = cells_of(rows)
    assert a.note is None
    assert b.note == "2 of 3 folds"
    rows = [row(held_out="a", fold=f, lodo=None, **folds) for f in range(3)]
    assert "lodo is undefined" in str(cells_of(rows)[0][0].note)


def test_what_the_oracle_chooses_by_is_that_of_the_split() -> None:
    half, out = "chosen on one half of the tested images", "chosen on the out-split of the held-out environment, which"
    for rows, wanted, other in (([row()], half, out), ([row(test_split="in_80")], out, half)):
        assert f"Selection rule oracle: † {wanted}" in said(rows, "oracle")
        assert other not in said(rows, "oracle")
    assert half not in said([row(test_split="in_80")])


def test_groups_that_judged_and_are_tested_are_warned_of() -> None:
    groups = list(range(100))
    assert "were seen in training and in choosing" in said([row(groups=groups, test_split="full")])
    assert "were seen in training (in" in said([row(groups=groups, test_split="in_80")])


def test_average_uses_only_seeds_with_every_environment() -> None:
    rows = [row(held_out=h, seed=s, target=[x]) for h, s, x in (("a", 0, 0.2), ("b", 0, 0.4), ("a", 1, 1.0))]
    whole = cells_of(rows)[0][-1]
    assert whole.value == pytest.approx(30)
    assert (whole.seeds, whole.note) == ((0,), "1 of 2 seeds")
    none = cells_of([rows[1], rows[2]])[0][-1]
    assert (none.value, none.note) == (None, "no average: no seed has every held-out environment")


def test_the_words_say_what_the_numbers_are() -> None:
    rows = [
        row(
            held_out=h, seed=s, n_test=n, groups=[i // 2 for i in range(n)], test_split="full", lambda_=x,
            intervention_set="all", interventions='{"kinds": [{"name": "grayscale"}], "text": null}',
        )
        for h, s, n, x in [("a", 0, 100, 1.0), ("a", 1, 101, 10.0)]
    ]  # fmt: skip
    setting, selections = only(rows)
    of_protocol = f"{rule_words('lodo', setting)} {protocol_words(setting, selections, Options())}"
    assert "synthetic, ViT-B-32, fp32" in of_protocol
    assert "fp32" in said(rows)
    context = words.context([(setting, selections)], "lodo", Options())
    assert (context["dataset"], context["backbone"], context["rule"]) == ("synthetic", "ViT-B-32", "lodo")
    for of_rows in (said(rows), of_protocol):
        for found in (
            "Selection rule lodo: ", "Protocol held_out",
            "full: all images of the held-out environment", "Seeds: 0, 1", "one standard error over groups of test images",
            "a 50.5 (100.5). n counts groups", "Training images: 1,000", '"a photo of a {}."',
            "tested on its half of the out-groups", "Split by group", "WARNING",
            "lambda 1, 10", "intervention sets all", "normalize none", "drawn once: their variance is not in the ±",
        ):  # fmt: skip
            assert found in of_rows
    safe = said([row(groups=list(range(100)), test_split="out_20")])
    assert "WARNING" not in safe
    assert "Variation between seeds is not in it" in safe
    assert "drawn once" not in safe  # no interventions, no views
    assert "in-split (80 %), as in DomainBed" in said([row()])


def test_the_words_say_what_stands_in_two_environments_and_whose_captions_fits_see() -> None:
    text = '{"kinds": [{"name": "text"}], "text": {"pairs": "pairs.jsonl"}}'
    found = said([row(n_shared=12, interventions=text)])
    assert "12 images stand byte by byte in two environments." in found
    assert "those without an image_id belong to no image and are seen by every fit" in found
    assert "drawn once" not in found
    templates = '{"kinds": [{"name": "text"}], "text": {"pairs": null}}'
    assert "image_id" not in said([row(interventions=templates)])


def test_a_single_source_environment_has_one_rule() -> None:
    rows = [row(lodo=None, n_sources=1, projection=p, target=[0.1, 0.3, 0.2], held_out=h)
            for p in ("pca", "random") for h in "ab"]  # fmt: skip
    for cost in selection_costs(only(rows)[1]):
        assert [*cost.accuracies, *cost.gaps] == ["training_domain", "oracle", "ceiling", "training_domain"]
    made = table(rows, None)
    assert made.context["rule"] == "training_domain"
    assert "every method, plain prediction too, is chosen by training_domain" in " ".join([*made.notes, *made.details])


def test_only_heads_that_learn_classes_from_images_are_said_to_miss_new_ones() -> None:
    open_class: dict[str, Any] = {"protocol": "open_class", "class_half": "new", "rounding": "ceil", "n_classes": 3}
    open_class |= {"n_base": 2, "classes": ["cat", "dog", "eel"]}
    rows = [row(predictor=p, **open_class) for p in ("zero_shot", "tip_adapter", "ridge", "linear_probe")]
    found = protocol_words(*only(rows), Options())
    assert "Base classes: the first 2 of 3, half of them rounded up." in found
    assert "Base classes: the first 2 of 3, half of them rounded up." in said(rows)
    assert "(linear probe, ridge probe) never predict one they have not seen: 0 %" in found
    assert "never predict" not in protocol_words(*only(rows[:2]), Options())


def test_rows_that_differ_in_protocol_never_share_a_table() -> None:
    every: list[dict[str, Any]] = [
        {}, {"test_split": "full"}, {"precision": "fp16"}, {"prompts": '["{}"]'}, {"folds": 5, "fold": 0},
        {"rounding": "floor"},
    ]  # fmt: skip
    keys = [(h, p) for h in "ab" for p in ("identity", "pca")]
    parts = results_of([row(held_out=h, projection=p, **one) for one in every for h, p in keys])
    assert [len(selections.rows) for _, selections in parts] == [4] * 6
    tables = [table_of(environments.TABLE, [one]) for one in parts]
    names = [one.name for one in words.named([one for one in tables if one is not None])]
    assert len(set(names)) == len(names) == 5  # one of five folds is no table
    assert {"environments-full-fp32", "environments-out_20-fp32", "environments-out_20-fp16"} <= set(names)
    assert [len(group) for group in groups(parts)] == [1] * 6


def test_picks_list_what_was_chosen_and_skip_methods_without_a_choice() -> None:
    icm: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": "all"}
    params: dict[str, Any] = {"predictor_params": '{"c": 1}', "projection_params": '{"k": 2}'}
    rows = [
        row(), row(seed=1), row(**icm, lambda_=1.0, target=[0.1, 0.9, 0.2]),
        row(**icm, lambda_=10.0, target=[0.1, 0.3, 0.2]), row(**icm, lambda_=1.0, target=[0.1, 0.3, 0.2], seed=1),
        row(**icm, lambda_=10.0, target=[0.1, 0.3, 0.9], seed=1, **params),
    ]  # fmt: skip
    picks = list(pick_records(only(rows)[1]))
    assert {one["method"] for one in picks} == {"CLIP-ICM + zero-shot"}
    assert [(one["rule"], one["looks_at_target"], one["seed"]) for one in picks[:4]] == [
        ("training_domain", False, 0), ("training_domain", False, 1), ("lodo", False, 0), ("lodo", False, 1)]  # fmt: skip
    assert {one["rule"] for one in picks if one["looks_at_target"]} == {"oracle", "ceiling"}
    names = ("held_out", "rank", "lambda_", "intervention_set", "normalize", "predictor_params", "projection_params")
    assert [tuple(one[name] for name in names) for one in picks[:2]] == [
        ("art", 2, 1.0, "all", "none", "{}", "{}"), ("art", 4, 10.0, "all", "none", '{"c": 1}', '{"k": 2}')]  # fmt: skip
    assert [one["training_domain"] for one in picks[:2]] == pytest.approx([0.9, 0.9])


def test_findings_rule_is_lodo_only_if_there_is_one_wherever_something_was_tested() -> None:
    assert rule_for(frame([row()])) == "lodo"
    assert rule_for(frame([row(lodo=None), row(projection="pca", lodo=None)])) == "training_domain"
    assert rule_for(frame([row(), row(seed=1, lodo=None)])) == "training_domain"
    # Rows that lack lodo scores, with too few sources, are not selected.
    assert rule_for(frame([row(), row(lambda_=2.0, lodo=None)])) == "lodo"
