"""SYNTHETIC rows: effective robustness against statsmodels."""

import csv
import io
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from reports.analysis.backbones import LINEAR_PROBE, ZERO_SHOT, AccuracyLine, Lines, lines_of
from reports.analysis.metrics import metrics_csv, metrics_of, robustness
from reports.analysis.selections import Selections
from reports.analysis.settings import Setting
from reports.tables import backbones
from tests.reports.synthetic import results_of, row
from tests.reports.tables.rows import table_of

# backbone -> source and held-out accuracy of plain zero-shot, then of the plain linear probe
BACKBONES = {
    "RN50": (0.60, 0.40, 0.75, 0.36), "RN101": (0.63, 0.47, 0.78, 0.38), "RN50x4": (0.66, 0.50, 0.79, 0.45),
    "RN50x16": (0.70, 0.52, 0.81, 0.46), "ViT-B-32": (0.72, 0.58, 0.84, 0.50), "ViT-B-16": (0.78, 0.63, 0.86, 0.57),
    "ViT-L-14": (0.84, 0.74, 0.90, 0.62), "ViT-L-14-336": (0.86, 0.75, 0.91, 0.68), "ViT-H-14": (0.90, 0.80, 0.93, 0.71),
}  # fmt: skip
SHIFTS = {"art": 0.02, "sketch": -0.04}
ICM: dict[str, Any] = {"projection": "icm", "order": "largest", "lambda_": 1.0, "intervention_set": "all"}


def rows_of(backbone: str, **other: Any) -> list[dict[str, Any]]:
    source, target, probe_source, probe_target = BACKBONES[backbone]
    common = {"backbone": backbone, "backbone_fingerprint": f"weights of {backbone}", **other}
    found = []
    for held_out, shift in SHIFTS.items():
        for seed in (0, 1):
            own: dict[str, Any] = {"held_out": held_out, "seed": seed, "lodo": [0.5], **common}
            found.append(row(target=[target + shift], training_domain=[source + shift / 2 + 0.01 * seed], **own))
            found.append(row(**ICM, target=[target + shift + 0.05], training_domain=[source - 0.05], **own))
            of_probe: dict[str, Any] = {"training_domain": [probe_source + shift / 2], "target": [probe_target + shift]}
            found.append(row(predictor="linear_probe", **of_probe, **own))
    return found


def settings(names: list[str], **other: Any) -> list[tuple[Setting, Selections]]:
    return results_of([r for name in names for r in rows_of(name, **other)])


def logit(p: Any) -> Any:
    return np.log(np.asarray(p) / (1 - np.asarray(p)))


def above(points: list[tuple[float, float]], source: float, target: float) -> list[float]:
    """Return distance above the line and its interval, in points, from statsmodels."""
    x, y = logit(np.array(points)).T
    frame_ = sm.OLS(y, sm.add_constant(x)).fit().get_prediction([[1.0, logit(source)]]).summary_frame(alpha=0.05)
    expected = 1 / (1 + np.exp(-frame_[["mean", "obs_ci_upper", "obs_ci_lower"]].to_numpy()[0]))
    return (100 * (target - expected)).tolist()


def written_of(setting: Setting, selections: Selections, lines: Lines) -> list[dict[str, str]]:
    """Return the lines of metrics.csv for the rule `training_domain`."""
    every = csv.DictReader(io.StringIO(metrics_csv([(setting, selections, lines)])))
    return [one for one in every if one["rule"] == "training_domain"]


def notes_of(parts: list[tuple[Setting, Selections]]) -> str:
    made = table_of(backbones.TABLE, parts)
    assert made is not None
    return " ".join(made.notes)


def test_distances_are_from_the_line_through_the_other_backbones_with_their_prediction_interval() -> None:
    parts = settings(list(BACKBONES))
    for (setting, selections), lines in zip(parts, lines_of(parts), strict=True):
        zero_shot, icm, probe = (robustness(one, lines) for one in metrics_of(selections, "training_domain"))
        others = [numbers for name, numbers in BACKBONES.items() if name != setting.backbone]
        source, target, probe_source, probe_target = BACKBONES[setting.backbone]
        plain = [(x, y - 0.01) for x, y, _, _ in others]  # means over environments and seeds
        expected = {
            "zero_shot": above(plain, source, target - 0.01),
            "icm": above(plain, source - 0.05, target + 0.04),
            "probe": above(plain, probe_source - 0.005, probe_target - 0.01),
            "effective": above([(x - 0.005, y - 0.01) for _, _, x, y in others], probe_source - 0.005, probe_target - 0.01),
        }  # fmt: skip
        found = {"zero_shot": zero_shot, "icm": icm, "probe": probe}
        for name, one in found.items():
            distance, _ = one
            assert distance is not None
            assert [distance.value, distance.low, distance.high] == pytest.approx(expected[name])
            assert distance.low < distance.value < distance.high
        assert zero_shot[1] is icm[1] is None  # these learn from no image
        distance = probe[1]
        assert distance is not None
        assert [distance.value, distance.low, distance.high] == pytest.approx(expected["effective"])
        written = written_of(setting, selections, lines)
        names = ["above_zero_shot_line", "above_zero_shot_line_low", "above_zero_shot_line_high"]
        for line, name in zip(written, found, strict=True):
            assert [float(line[key]) for key in names] == pytest.approx(expected[name], abs=1e-4)
            assert line["n_backbones"] == "8"
        assert [one["n_probe_backbones"] for one in written] == ["", "", "8"]
        assert float(written[2]["effective_robustness"]) == pytest.approx(expected["effective"][0], abs=1e-4)
    assert "through plain prediction of the other backbones" in notes_of(parts)


def test_each_line_has_its_own_number_of_backbones() -> None:
    parts = results_of(
        [r for name in BACKBONES for r in rows_of(name) if (name, r["predictor"]) != ("RN50", "linear_probe")]
    )
    written = written_of(*parts[-1], lines_of(parts)[-1])
    assert [(one["n_backbones"], one["n_probe_backbones"]) for one in written] == [("8", ""), ("8", ""), ("8", "7")]


def test_eight_backbones_are_needed_and_neither_random_weights_nor_a_second_name_count() -> None:
    names = list(BACKBONES)
    eight = settings(names[:8])
    assert all(line.known for lines in lines_of(eight) for line in lines.values())
    rows = [r for name in names[:7] for r in rows_of(name)]
    rows += [r | {"backbone": "another name"} for r in rows_of(names[6])]
    second_name = results_of(rows)
    assert len(second_name) == 8
    for parts, count in ((settings(names[:7]), 7), (second_name, 7), (settings(names, random_weights=True), 0)):
        lines = lines_of(parts)
        assert {one[ZERO_SHOT].backbones for one in lines} == {count}
        for (_, selections), own in zip(parts, lines, strict=True):
            for one in metrics_of(selections, "lodo"):
                assert robustness(one, own) == (None, None)
        assert {one["above_zero_shot_line"] for one in written_of(*parts[0], lines[0])} == {""}
        assert "needs 8 backbones with weights that are not random" in notes_of(parts)


def test_backbones_with_other_held_out_environments_or_other_images_make_no_line_with_them() -> None:
    names = list(BACKBONES)
    rows = [r for name in names[:7] for r in rows_of(name)]
    rows += [r for r in rows_of(names[7]) if r["held_out"] == "art"]
    rows += rows_of(names[8], dataset_fingerprint="data1")
    assert sorted(lines[ZERO_SHOT].backbones for lines in lines_of(results_of(rows))) == [1, 1, *[7] * 7]


def test_without_rows_of_a_plain_method_there_is_no_line() -> None:
    assert lines_of(results_of([row(**ICM)])) == [dict.fromkeys((ZERO_SHOT, LINEAR_PROBE), AccuracyLine())]
