"""SYNTHETIC rows: methods by intervention set, share of pairs and number of kinds."""

import json
from typing import Any

import numpy as np
import pytest

from reports.chosen import Selections
from reports.methods import Method
from reports.needed import needed
from reports.settings import by_setting
from tests.reports.synthetic import TESTED, frame, row

HELD_OUTS = ("art", "sketch")


def of_set(name: str, share: float, kinds: int = 1, pairs: str | None = None, **more: Any) -> list[dict[str, Any]]:
    content: dict[str, Any] = {"kinds": [{"name": f"k{i}"} for i in range(kinds)]} | ({"pairs": pairs} if pairs else {})
    made: dict[str, Any] = {"projection": "icm", "order": "largest", "intervention_set": name, "lambda_": 1.0,
                            "interventions": json.dumps(content), "projection_variant": pairs, **more}  # fmt: skip
    return [row(held_out=h, target=(share,), **made) for h in HELD_OUTS]


def section(rows: list[dict[str, Any]]) -> str:
    [(setting, part)] = by_setting(frame([*rows, *(row(held_out=h) for h in HELD_OUTS)]))
    return "\n".join(needed(setting, Selections(part, TESTED)))


def test_every_set_is_a_line_with_its_own_choice_and_its_gain() -> None:
    rows = [
        *of_set("all", 0.6, 7), *of_set("weak", 0.53), *of_set("strong", 0.57), *of_set("weak", 0.4, lambda_=3.0),
        *of_set("tenth", 0.55, 7, "10 % of the pairs"), *of_set("hundredth", 0.52, 7, "1 % of the pairs"),
    ]  # fmt: skip
    text = section(rows)
    table = [line for line in text.splitlines() if line.startswith("| ") and "%" in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [line[:4] for line in cells] == [
        ["hundredth", "7", "1 %", "52.0"], ["tenth", "7", "10 %", "55.0"], ["weak", "1", "100 %", "53.0"],
        ["strong", "1", "100 %", "57.0"], ["all", "7", "100 %", "60.0"],
    ]  # fmt: skip
    # of 100 images ten more are right: mean difference 0.1, the variance of its mean over 2 environments of 100
    assert [line[4].split(" [")[0] for line in cells] == ["+2.0", "+5.0", "+3.0", "+7.0", "+10.0"]
    low, high = (float(end) for end in cells[-1][4].split("[")[1].strip("]").split(", "))
    assert (low + high) / 2 == pytest.approx(10, abs=0.06)
    error = np.sqrt(0.1 * 0.9 / 100 / 2)
    assert (high - low) / 2 == pytest.approx(100 * 1.97 * error, rel=0.03)
    assert "CLIP-ICM (largest) + zero-shot:" in text.replace("\\", "")


def test_shares_of_the_pairs_are_methods_of_their_own_that_are_called_as_the_paper_s() -> None:
    method = Method("icm", "largest", "zero_shot", "10 % of the pairs, seed 3")
    assert method.projection_label == "CLIP-ICM (10 % of the pairs, seed 3, largest)"
    assert method.with_all_pairs == Method("icm", "largest", "zero_shot")
    equal = Method("icm", "largest", "zero_shot", "0.5 % of the pairs, equal N")
    assert equal.projection_label == "Truncation (0.5 % of the pairs, equal N)"
    assert equal.with_all_pairs.variant == "equal N"


def test_of_many_sets_those_with_as_many_kinds_are_one_line() -> None:
    rng = np.random.default_rng(0)
    shares = {name: (kinds, round(rng.uniform(0.4, 0.7), 2)) for kinds in (1, 2) for name in
              (f"set {kinds} {i}" for i in range(9))}  # fmt: skip
    text = section([r for name, (kinds, share) in shares.items() for r in of_set(name, share, kinds)])
    for kinds in (1, 2):
        values = [100 * share for number, share in shares.values() if number == kinds]
        mean = f"{np.mean(values):.1f} [{min(values):.1f}, {max(values):.1f}]"
        assert f"| 9 sets | {kinds} | 100 % | {mean} | {np.mean(values) - 50:+.1f} |" in text.replace("\\[", "[")


def test_one_set_is_no_comparison() -> None:
    assert section(of_set("all", 0.6)) == ""
