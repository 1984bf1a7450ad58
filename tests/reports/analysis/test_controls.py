"""Controls with a known answer: expected and found components, and their section of a report. All rows are synthetic."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.common.storage.files import Storage
from reports.analysis.findings import ControlResult, Expected, comparisons, control_result
from reports.analysis.settings import Options
from reports.build import write_report
from reports.made import ReportFiles
from reports.text.sentences import Origin
from tests.reports.synthetic import TESTED, frame, only, row
from tests.reports.test_build import without_figures

__all__ = ["without_figures"]  # a fixture
pytestmark = pytest.mark.usefixtures("without_figures")

N = 2000
BOTH = ("interventions", "environments")
# Share of right answers: with both, environments alone, interventions alone, isotropic + environments, borrowed.
NEITHER, ENVIRONMENTS, INTERVENTIONS, ALL = (
    (0.5,) * 5,
    (0.7, 0.7, 0.5, 0.7, 0.7),
    (0.7, 0.5, 0.7, 0.5, 0.5),
    (0.7, 0.6, 0.6, 0.6, 0.6),
)


def world(**shares: tuple[float, ...]) -> list[dict[str, Any]]:
    """Return rows for each held-out environment; the accuracy of plain prediction is 50 %."""
    made = []
    for held_out, (both, environments, interventions, isotropic, borrowed) in shares.items():
        methods: list[tuple[float, dict[str, Any]]] = [(0.5, {"projection": "identity"})]
        methods += [(isotropic, {"projection": "isotropic_environments"}), (0.55, {"projection": "fixed"})]
        methods += [(borrowed, {"projection": "shrinkage", "placebo": "borrowed"})]
        named = zip((both, environments, interventions), ("both", "environments", "interventions"), strict=True)
        methods += [(s, {"projection": "shrinkage", "projection_params": f'{{"nuisance": "{n}"}}'}) for s, n in named]
        made += [row(held_out=held_out, correct=np.arange(N) < round(s * N), **what) for s, what in methods]
    return made


def found(made: list[dict[str, Any]], expected: Expected) -> ControlResult | None:
    return control_result(comparisons(*only(made), Options()).compared, expected)


@pytest.mark.parametrize(
    ("shares", "parts"),
    [(NEITHER, ()), (ENVIRONMENTS, ("environments",)), (INTERVENTIONS, ("interventions",)), (ALL, BOTH)],
)
def test_credited_components_are_the_planted_ones(shares: tuple[float, ...], parts: tuple[str, ...]) -> None:
    for expected in ((), ("environments",), ("interventions",), BOTH):
        one = found(world(a=shares, b=shares), Expected(expected))
        assert one
        assert one.found == parts
        assert one.right == (expected == parts)


def test_a_control_can_be_restricted_to_one_environment() -> None:
    made = world(a=NEITHER, b=ALL, c=ENVIRONMENTS)
    for held_out, parts in {"a": (), "b": BOTH, "c": ("environments",)}.items():
        one = found(made, Expected(parts, held_out=held_out))
        assert one
        assert (one.found, one.right) == (parts, True)
        assert {comparison.held_outs for comparison in one.compared} == {(held_out,)}
    assert found(made, Expected(held_out="z")) is None


def test_a_predictor_without_rows_has_no_verdict() -> None:
    assert found(world(a=ALL), Expected(BOTH, "linear_probe")) is None
    assert found([row(held_out="a", projection="identity")], Expected()) is None


def report(place: Path, expected: dict[str, Expected] | None) -> ReportFiles:
    made = frame(world(a=ALL, b=ALL))
    return write_report(made, TESTED, Storage(str(place)), "", Origin("controls", expected=expected or {}))


def test_the_report_states_expected_and_found_components(tmp_path: Path) -> None:
    files = report(tmp_path, {"synthetic": Expected(("environments",)), "another": Expected()})
    text = (tmp_path / "report.md").read_text()
    [line] = [line for line in text.split("## Controls")[1].split("\n##")[0].splitlines() if line.startswith("- ")]
    assert "expected environment means, found interventions and environment means: WRONG." in line
    assert "WRONG: interventions and environment means found" in " ".join(files.text.split())
    right = report(tmp_path / "right", {"synthetic": Expected(BOTH)})
    assert ": right." in (tmp_path / "right" / "report.md").read_text()
    assert "WRONG" not in right.text
    table = pd.read_csv(tmp_path / "tables" / "controls.csv")
    assert table[["dataset", "expected", "found", "right"]].to_dict("records") == [
        {"dataset": "synthetic", "expected": "environments", "found": "interventions environments", "right": False}
    ]


def test_without_expectations_the_report_has_no_controls(tmp_path: Path) -> None:
    files = report(tmp_path, None)
    assert "Controls" not in (tmp_path / "report.md").read_text()
    assert not [file for file in files.files if "controls.csv" in file]
