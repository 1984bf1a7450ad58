"""docs/does-it-help.md: made from docs/figures.json alone, and its figures from result rows."""

import copy
import json
import re
from typing import Any

import numpy as np
import pytest

from reports.analysis.comparisons import compare, over_data_sets
from tests.docs.does_it_help import SHRINKAGE, page, page_of
from tests.docs.figures import FIGURES, TOLERANCE, differing, figures_of
from tests.reports.synthetic import TESTED, frame, results_of, row
from tests.reports.tables.rows import setting

GAINS = {"identity": 0.5, "shrinkage": 0.62, "fixed": 0.44}


def rows(gains: dict[str, float], **more: Any) -> list[dict[str, Any]]:
    """SYNTHETIC rows of two data sets with four environments each."""
    rng, made = np.random.default_rng(0), []
    for dataset in ("one", "two"):
        for projection, share in gains.items():
            for held_out in "abcd":
                correct = rng.random(200) < share
                made.append(row(held_out=held_out, correct=correct, projection=projection, **setting(dataset), **more))
    return made


def figures(gains: dict[str, float]) -> dict[str, Any]:
    return figures_of(frame(rows(gains)), dict(TESTED))


def test_figures_are_those_of_the_comparisons() -> None:
    made, parts = figures(GAINS), results_of(rows(GAINS))
    named = []
    for own, (where, selections) in zip(made["settings"], parts, strict=True):
        ours = next(m for m in selections.parts if m.label == SHRINKAGE)
        plain = selections.plain_of("zero_shot")
        assert plain is not None
        one = compare(selections, ours, "lodo_1se", plain)
        assert one is not None
        found = own["methods"][SHRINKAGE]["lodo_1se"]
        assert (found["points"], found["low"]) == (
            round(100 * one.interval.estimate, 4),
            round(100 * one.interval.low, 4),
        )
        assert found["ahead"] + found["equal"] + found["behind"] == own["environments"] == 4
        named.append((where.dataset, one))
    whole = over_data_sets(named)
    assert whole is not None
    assert whole.others.interval is not None
    found = made["new_sets"][SHRINKAGE]["lodo_1se"]
    assert found["points"] == round(100 * whole.others.interval.estimate, 4)


def test_the_page_changes_when_a_row_changes() -> None:
    """In each row of one method one image in ten more is right: the page says another gain."""
    before, after = (figures({**GAINS, "shrinkage": share}) for share in (0.62, 0.72))
    pages = [page_of({"real": made}) for made in (before, after)]
    assert pages[0] != pages[1]
    for made, text in zip((before, after), pages, strict=True):
        for own in made["settings"]:
            assert f"{own['methods'][SHRINKAGE]['lodo_1se']['points']:+.1f} [" in text


def test_every_figure_of_the_page_is_in_the_file() -> None:
    """With other figures in the file, no number with a decimal and no count stays."""
    known = json.loads(FIGURES.read_text(encoding="utf-8"))
    other = copy.deepcopy(known)

    def change(content: Any) -> Any:
        if isinstance(content, dict):
            return {key: change(one) for key, one in content.items()}
        if isinstance(content, list):
            return [change(one) for one in content]
        is_number = isinstance(content, int | float) and not isinstance(content, bool)
        return content + (1234.5 if isinstance(content, float) else 1000) if is_number else content

    first, second = (set(re.findall(r"[+-]?\d+\.\d", text)) for text in (page_of(known), page_of(change(other))))
    assert len(first) > 50
    assert first & second == set()
    counted = re.compile(r"\d[\d,]*(?= (?:held-out environments|environments|classes|images))")
    first, second = (set(counted.findall(text)) for text in (page_of(known), page_of(change(other))))
    assert len(first) > 5
    assert first & second == set()
    assert page() == page_of(known)


@pytest.mark.parametrize(("change", "count"), [(0.0, 0), (TOLERANCE / 2, 0), (2 * TOLERANCE, 1)])
def test_other_figures_are_named(change: float, count: int) -> None:
    known = figures(GAINS)
    ours = copy.deepcopy(known)
    ours["settings"][0]["methods"][SHRINKAGE]["lodo"]["points"] += change
    lines = differing(ours, known)
    assert len(lines) == count
    assert all("/settings/0/methods/Shrinkage + zero-shot/lodo/points" in line for line in lines)
    assert differing(known, {})
    ours["settings"][0]["methods"][SHRINKAGE]["verdict"] = "another"
    assert any("another here" in line for line in differing(ours, known))
