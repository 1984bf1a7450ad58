"""Labels and order of known and unknown methods, from rows alone."""

import ast
from pathlib import Path
from typing import Any

import pytest

import reports.analysis.methods
from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from reports.analysis.methods import Method, by_method
from tests.reports.synthetic import frame, row

# (projection, order, predictor, label)
LABELS = [
    ("identity", None, "zero_shot", "Zero-shot"),
    ("identity", None, "linear_probe", "Linear probe"),
    ("pca", None, "zero_shot", "PCA + zero-shot"),
    ("random", None, "zero_shot", "Random projection + zero-shot"),
    ("icm", "largest", "zero_shot", "CLIP-ICM + zero-shot"),
    ("icm", "released", "linear_probe", "CLIP-ICM (released order) + linear probe"),
    ("drop_top", None, "ridge", "PCA without top directions + ridge probe"),
    ("identity", None, "tip_adapter", "Tip-Adapter"),
    ("mine:Own", None, "mine:Other", "mine:Own + mine:Other"),
    ("identity", None, "mine:Other", "mine:Other"),
    ("coral", None, "ridge", "CORAL ‡ + ridge probe"),
    ("identity", None, "mean_of_views", "Zero-shot on the mean of views ‡"),
    ("coral", None, "mean_of_views", "CORAL ‡ + zero-shot on the mean of views ‡"),
]


def method(projection: str = "identity", order: str | None = None, predictor: str = "zero_shot", **more: Any) -> Method:
    [one] = by_method(frame([row(projection=projection, order=order, predictor=predictor, **more)]))
    return one


@pytest.mark.parametrize(("projection", "order", "predictor", "label"), LABELS)
def test_every_method_has_a_readable_label(projection: str, order: str | None, predictor: str, label: str) -> None:
    assert method(projection, order, predictor).label == label


def test_every_registered_component_has_a_label_and_its_traits_in_rows() -> None:
    for registry in (PROJECTIONS, PREDICTORS):
        for name in registry.names():
            cls, one = registry.component_class(name), method(**{registry.kind: name})
            said = getattr(one, f"of_{registry.kind}")
            assert name != said.label != ""
            assert {name for name in vars(cls) if vars(cls)[name] is True and name[0] != "_"} <= {*said.traits}
            assert one.looks_at_target_images == ("‡" in one.label) == cls.looks_at_target_images
    for name in PREDICTORS.names():
        cls, one = PREDICTORS.component_class(name), method(predictor=name, predictor_variant="2")
        assert (one.learns_nothing, one.learns_classes) == (not cls.uses_training_images, cls.learns_classes)
        assert one.predictor_uses_c_d == cls.uses_c_d


def test_roles_in_rows_determine_the_comparisons() -> None:
    own: dict[str, Any] = {"projection_label": "Mine", "projection_traits": ["full_rank_only"]}
    every = {role: method("mine:Own", projection_role=role, **own) for role in ("method", "control", "rival", "plain")}
    assert [role for role, one in every.items() if one.is_control] == ["control", "rival"]
    assert [role for role, one in every.items() if one.is_rival] == ["rival"]
    assert [role for role, one in every.items() if one.is_plain] == ["plain"]
    assert {one.label for one in every.values()} == {"Mine + zero-shot", "Zero-shot"}
    fair = ["calibrated", "denoiser", "nap", "centring", "biased_prompts", "roboshot", "generalized", "drop_top",
            "environment_means", "leace"]  # fmt: skip
    assert [name for name in PROJECTIONS.names() if method(name).is_rival] == fair


def test_reports_name_only_the_components_that_they_analyse() -> None:
    words = {node.value for node in ast.walk(ast.parse(Path(reports.analysis.methods.__file__).read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)}  # fmt: skip
    assert words & {*PROJECTIONS.names(), *PREDICTORS.names()} == {"identity", "icm", "shrinkage"}


def test_variants_of_a_predictor_are_lines_of_their_own_in_natural_order() -> None:
    shots = [row(predictor="few_shot", predictor_variant=f"{n} shots") for n in (16, 2, 1)]
    methods = by_method(frame([*shots, row(predictor="ridge")]))
    labels = [*(f"Few-shot probe ({n} shots)" for n in (1, 2, 16)), "Ridge probe"]
    assert [m.label for m in methods] == labels


def test_the_order_of_methods_is_independent_of_the_order_of_rows() -> None:
    wanted = [
        ("identity", None, "zero_shot"), ("pca", None, "zero_shot"), ("random", None, "zero_shot"),
        ("drop_top", None, "zero_shot"), ("leace", None, "zero_shot"), ("icm", "released", "zero_shot"),
        ("icm", "largest", "zero_shot"), ("identity", None, "linear_probe"), ("identity", None, "ridge"),
    ]  # fmt: skip
    rows = frame([row(projection=p, order=o, predictor=q) for p, o, q in reversed(wanted)])
    assert [(m.projection, m.order, m.predictor) for m in by_method(rows)] == wanted
