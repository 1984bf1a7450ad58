"""SYNTHETIC rows: what lies behind the means, against a few lines of arithmetic."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.common.storage import Storage
from reports.build import write_report
from reports.chosen import Selections
from reports.metrics import metrics_csv, metrics_of, per_class_csv, selection_costs, zero_shot_lines
from reports.settings import by_setting
from tests.reports.synthetic import frame, row

BACKBONES = {"RN50": (0.6, 0.40), "ViT-B-32": (0.7, 0.55), "ViT-B-16": (0.8, 0.68), "ViT-L-14": (0.9, 0.86)}


def rows(**other: Any) -> list[dict[str, Any]]:
    """Plain zero-shot on or near a line, and CLIP-ICM off it, for several backbones, environments and seeds."""
    found = []
    for backbone, (source, target) in BACKBONES.items():
        for held_out, shift in (("art", 0.0), ("sketch", -0.1)):
            for seed in (0, 1):
                common: dict[str, Any] = {"backbone": backbone, "held_out": held_out, "seed": seed, **other}
                plain = [target + shift + 0.01 * seed]
                found.append(row(target=plain, training_domain=[source], **common))
                icm = [target + shift + 0.02, target + shift + 0.05]
                found.append(
                    row(
                        projection="icm", order="largest", target=icm, training_domain=[source, source - 0.1],
                        lodo=[0.1, 0.2], balanced=[0.3, 0.25], ece_lodo=0.2 + 0.1 * seed, ece_scaled_lodo=0.1,
                        temperature_lodo=4.0 ** (2 * seed - 1), per_class_lodo=[0.5, float("nan")],
                        lambda_=1.0, intervention_set="all", **common,
                    )
                )  # fmt: skip
    return found


def logit(p: Any) -> Any:
    return np.log(np.asarray(p) / (1 - np.asarray(p)))


def test_effective_robustness_is_the_distance_from_the_line_through_the_backbones() -> None:
    parts = [(setting, Selections(part)) for setting, part in by_setting(frame(rows()))]
    lines = zero_shot_lines(parts)
    assert len(lines) == 1
    for setting, selections in parts:
        own = lines[setting.without_backbone]
        plain, icm = metrics_of(selections, "lodo", own)
        source, target = BACKBONES[setting.backbone]
        distances: dict[str, list[float]] = {"plain": [], "icm": []}
        for shift in (0.0, -0.1):
            x = logit([s for s, _ in BACKBONES.values()])
            y = logit([t + shift + 0.005 for _, t in BACKBONES.values()])
            a, b = np.linalg.lstsq(np.stack([x, np.ones(4)], axis=1), y, rcond=None)[0]
            expected = lambda s, a=a, b=b: 1 / (1 + np.exp(-(a * logit(s) + b)))  # noqa: E731
            distances["plain"].append(target + shift + 0.005 - expected(source))
            distances["icm"].append(target + shift + 0.05 - expected(source - 0.1))  # lodo picks the larger rank
        assert plain.effective_robustness == pytest.approx(100 * np.mean(distances["plain"]))
        assert icm.effective_robustness == pytest.approx(100 * np.mean(distances["icm"]))


def test_two_backbones_or_random_weights_make_no_line() -> None:
    two = [r for r in rows() if r["backbone"] in ("RN50", "ViT-B-32")]
    for made in (two, rows(random_weights=True)):
        parts = [(setting, Selections(part)) for setting, part in by_setting(frame(made))]
        assert not any(zero_shot_lines(parts).values())
        selections = parts[0][1]
        assert metrics_of(selections, "lodo", {})[1].effective_robustness is None


def test_means_behind_the_mean() -> None:
    ((_, selections),) = [
        (s, Selections(part)) for s, part in by_setting(frame([r for r in rows() if r["backbone"] == "RN50"]))
    ]
    plain, icm = metrics_of(selections, "lodo", {})
    assert icm.means["target"] == pytest.approx(100 * np.mean([0.45, 0.35]))
    assert icm.worst_environment == "sketch"
    assert icm.worst_environment_accuracy == pytest.approx(35)
    assert icm.means["worst_class"] == pytest.approx(20)
    assert icm.means["balanced"] == pytest.approx(25)
    assert [icm.ece, icm.ece_scaled, icm.temperature] == pytest.approx([25, 10, 1])
    assert (plain.ece, plain.temperature) == (None, None)
    ((method, costs),) = selection_costs(selections)  # plain zero-shot has nothing to choose
    assert method.projection == "icm"
    assert costs["oracle"] - costs["training_domain"] == pytest.approx(3)
    assert costs["oracle"] - costs["lodo"] == pytest.approx(0)


def test_files_hold_every_rule_and_class() -> None:
    ((setting, part), *_) = by_setting(frame(rows()))
    metrics = list(csv.DictReader(io.StringIO(metrics_csv(setting, Selections(part), {}))))
    assert {line["rule"] for line in metrics} == {"training_domain", "lodo", "oracle"}
    assert {line["selected_on_target"] for line in metrics if line["rule"] == "oracle"} == {"True"}
    classes = list(csv.DictReader(io.StringIO(per_class_csv(setting, Selections(part)))))
    lodo = [line for line in classes if line["rule"] == "lodo" and line["held_out"] == "art"]
    assert [(line["class"], line["accuracy"], line["n_seeds"]) for line in lodo] == [
        ("cat", "50.0000", "2"),
        ("dog", "", "0"),
    ]


def test_open_classes_stand_apart_and_harmonic_means_have_no_interval(tmp_path: Path) -> None:
    halves = {"base": 0.8, "new": 0.4, "harmonic": 0.64 / 1.2}
    made = []
    for half, accuracy in halves.items():
        own: dict[str, Any] = (
            {"correct_training_domain": None, "correct_lodo": None, "correct_oracle": None}
            if half == "harmonic"
            else {}
        )
        kept: dict[str, Any] = {
            "protocol": "held_out_open_class",
            "test_split": "full",
            "class_half": half,
            "target": [accuracy],
            **own,
        }
        for held_out in ("art", "photo", "sketch"):
            made += [
                row(held_out=held_out, **kept),
                row(held_out=held_out, projection="icm", order="largest", lambda_=1.0, intervention_set="all", **kept),
            ]
    written = write_report(frame(made), Storage(str(tmp_path)), "", "Open")
    text = Path(written.report).read_text()
    for words in (", base classes", ", new classes", ", harmonic mean of base and new classes"):
        assert f"test split full{words}" in text
    assert "Harmonic means have no images of their own" in text
    assert "never predicts one it has not seen" in text
    names = {Path(f).name for f in written.files}
    assert {f"metrics-synthetic-ViT-B-32-full-{half}.csv" for half in halves} <= names
    assert "53.3" in text
