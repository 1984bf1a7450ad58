"""SYNTHETIC rows: methods by intervention set, share of pairs and number of kinds."""

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from reports.analysis.methods import Method, by_method
from reports.render.table import Line
from reports.tables import ablations
from tests.reports.synthetic import frame, results_of, row
from tests.reports.tables.rows import built, table_of

HELD_OUTS = ("art", "sketch")


def of_set(name: str, share: float, kinds: int = 1, pairs: float | None = None, **more: Any) -> list[dict[str, Any]]:
    content: dict[str, Any] = {"kinds": [{"name": f"k{i}"} for i in range(kinds)]}
    made: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": name, "lambda_": 1.0,
                            "interventions": json.dumps(content), "pairs_share": pairs, "pairs_seed": pairs and 0, **more}  # fmt: skip
    return [row(held_out=h, target=(share,), **made) for h in HELD_OUTS]


PLAIN = [row(held_out=h) for h in HELD_OUTS]


def lines_of(rows: list[dict[str, Any]]) -> tuple[Line, ...]:
    [block] = built(ablations.IMAGES, [*rows, *PLAIN]).blocks
    return block.lines


def test_every_set_is_a_line_with_its_own_picks_and_gain() -> None:
    rows = [
        *of_set("all", 0.6, 7), *of_set("weak", 0.53), *of_set("strong", 0.57), *of_set("weak", 0.4, lambda_=3.0),
        *of_set("tenth", 0.55, 7, 0.1), *of_set("hundredth", 0.52, 7, 0.01),
    ]  # fmt: skip
    lines = lines_of(rows)
    assert [one.name for one in lines] == [
        "all", "k0 alone (weak)", "k0 alone (strong)", "all (hundredth), 1 % of the pairs",
        "all (tenth), 10 % of the pairs", "by the rule",
    ]  # fmt: skip
    assert [one.cells[1].value for one in lines] == pytest.approx([60, 53, 57, 52, 55, 60])
    assert [one.cells[2].value for one in lines] == pytest.approx([10, 3, 7, 2, 5, 10])
    assert [one.cells[3].text for one in lines] == ["2 of 2", *["0 of 2"] * 2, None, None, "2 of 2"]
    # of 100 images ten more are right: mean difference 0.1, the variance of its mean over 2 environments of 100
    assert lines[0].cells[2].error == pytest.approx(100 * np.sqrt(200 / 199 * 0.1 * 0.9 / 100 / 2))


def test_shares_of_the_pairs_are_methods_of_their_own_that_are_called_as_the_paper_s() -> None:
    some = (
        {"pairs_share": 0.1, "pairs_seed": 3},
        {"pairs_share": 0.005, "pairs_seed": 0, "projection_variant": "equal N"},
    )
    rows = [row(projection="icm", order="largest", **columns) for columns in some]
    equal, method = by_method(frame(rows))
    assert method.name == "CLIP-ICM (10 % of the pairs, seed 3)"
    assert method.with_all_pairs == Method("icm", "largest", "zero_shot")
    assert equal.name == "Truncation (0.5 % of the pairs, equal N)"
    assert equal.with_all_pairs.variant == "equal N"


def test_many_sets_are_averaged_by_number_of_kinds() -> None:
    rng = np.random.default_rng(0)
    shares = {name: (kinds, round(rng.uniform(0.4, 0.7), 2)) for kinds in (1, 2) for name in
              (f"set {kinds} {i}" for i in range(9))}  # fmt: skip
    lines = lines_of([r for name, (kinds, share) in shares.items() for r in of_set(name, share, kinds)])
    assert [one.name for one in lines] == ["9 sets of 1 kind", "9 sets of 2 kinds", "by the rule"]
    times = []
    for kinds, one in zip((1, 2), lines, strict=False):
        values = [100 * share for number, share in shares.values() if number == kinds]
        source, accuracy, gain, picked = one.cells
        for own, expected in ((source, values), (accuracy, values), (gain, [x - 50 for x in values])):
            assert own.value == pytest.approx(np.mean(expected))
            sign = "+" if own is gain else ""
            ends = f"[{min(expected):{sign}.1f}, {max(expected):{sign}.1f}]"
            assert own.text == f"{np.mean(expected):{sign}.1f} {ends}"
        times.append(picked.value)
    best = max(shares.values(), key=lambda of: of[1])[0]
    assert times == ([2, 0] if best == 1 else [0, 2])  # one pick of each held-out environment


def test_informative_sets_come_before_means_and_shares_of_pairs() -> None:
    every, shares = "abcde", iter(np.linspace(0.40, 0.70, 32).round(2).tolist())
    rows, accuracies = [], {}
    for n in range(1, 6):
        for kinds in combinations(every, n):
            accuracies[kinds] = next(shares)
            content = json.dumps({"kinds": [{"name": k} for k in kinds]})
            rows += of_set("".join(kinds), accuracies[kinds], interventions=content)
    rows += of_set("tenth", 0.55, pairs=0.1, interventions=json.dumps({"kinds": [{"name": k} for k in every]}))
    lines = lines_of(rows)
    names = [one.name.partition(" (")[0] for one in lines]
    assert names == [
        "all", *(f"{k} alone" for k in every), *(f"without {k}" for k in every), "5 sets of 1 kind",
        "10 sets of 2 kinds", "10 sets of 3 kinds", "5 sets of 4 kinds", "all", "by the rule",
    ]  # fmt: skip
    assert lines[-2].name == "all (tenth), 10 % of the pairs"
    for n, one in zip(range(1, 5), lines[11:15], strict=True):
        of_number = [100 * x for kinds, x in accuracies.items() if len(kinds) == n]
        assert one.cells[1].value == pytest.approx(np.mean(of_number))


def test_one_set_is_no_comparison() -> None:
    assert table_of(ablations.IMAGES, results_of([*of_set("all", 0.6), *PLAIN])) is None


def test_sets_with_texts_stand_in_a_table_of_their_own_beside_the_largest_of_images() -> None:
    words: dict[str, Any] = {"interventions": json.dumps({"kinds": [{"name": "text"}]})}
    both: dict[str, Any] = {"interventions": json.dumps({"kinds": [{"name": "k0"}, {"name": "k1"}, {"name": "text"}]})}
    rows = [
        *of_set("images", 0.6, 2), *of_set("few", 0.5, 1), *of_set("words", 0.55, **words), *of_set("both", 0.7, **both),
        *of_set("tenth", 0.65, 2, 0.1), *PLAIN,
    ]  # fmt: skip
    images, texts = (built(spec, rows) for spec in (ablations.IMAGES, ablations.TEXTS))
    assert texts.name == "ablation_text"
    assert [one.name for one in images.blocks[0].lines] == [
        "all (images)", "k0 alone (few)", "all (tenth), 10 % of the pairs", "by the rule"
    ]  # fmt: skip
    assert [one.name for one in texts.blocks[0].lines] == [
        "all (both)", "text alone (words)", "without text (images)", "by the rule"
    ]  # fmt: skip
    assert [one.cells[1].value for one in texts.blocks[0].lines] == pytest.approx([70, 55, 60, 70])
    assert table_of(ablations.TEXTS, results_of(rows[:4])) is None
