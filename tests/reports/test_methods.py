"""Labels and places of methods, known and unknown."""

import pytest

from benchmark.method.predictors import PREDICTORS
from benchmark.method.subspace import PROJECTIONS
from reports.methods import Method, by_method
from tests.reports.synthetic import frame, row


@pytest.mark.parametrize(
    ("projection", "order", "predictor", "label"),
    [
        ("identity", None, "zero_shot", "Zero-shot"),
        ("identity", None, "linear_probe", "Linear probe"),
        ("pca", None, "zero_shot", "PCA + zero-shot"),
        ("pca", "largest", "zero_shot", "PCA + zero-shot"),
        ("random", None, "zero_shot", "Random projection + zero-shot"),
        ("icm", "largest", "zero_shot", "CLIP-ICM (largest) + zero-shot"),
        ("icm", "released", "linear_probe", "CLIP-ICM (released order) + linear probe"),
        ("drop_top", None, "ridge", "PCA without top directions + ridge probe"),
        ("identity", None, "tip_adapter", "Tip-Adapter"),
        ("mine:Own", None, "mine:Other", "mine:Own + mine:Other"),
        ("identity", None, "mine:Other", "mine:Other"),
    ],
)
def test_every_method_has_a_readable_label(projection: str, order: str | None, predictor: str, label: str) -> None:
    assert Method(projection, order, predictor).label == label


def test_every_registered_component_has_a_label() -> None:
    for projection in PROJECTIONS.names():
        assert Method(projection, None, "zero_shot").projection_label != projection
    for predictor in PREDICTORS.names():
        assert Method("identity", None, predictor).predictor_label != predictor


def test_what_looks_at_the_tested_images_is_marked_wherever_it_is_named() -> None:
    sees = [name for name in PROJECTIONS.names() if PROJECTIONS.component_class(name).looks_at_target_images]
    assert sees == ["own_mean", "coral"]
    for name in PROJECTIONS.names():
        assert Method(name, None, "zero_shot").label.count("‡") == (name in sees)
    assert Method("coral", None, "ridge").label == "CORAL ‡ + ridge probe"
    sees = [name for name in PREDICTORS.names() if PREDICTORS.component_class(name).looks_at_target_images]
    assert sees == ["mean_of_views", "zero_temperature"]
    for name in PREDICTORS.names():
        plain, projected = Method("identity", None, name), Method("pca", "largest", name)
        assert plain.looks_at_target_images == projected.looks_at_target_images == (name in sees)
        assert [m.label.count("‡") for m in (plain, projected)] == [name in sees] * 2
        assert plain.predictor_label.endswith(" ‡") == (name in sees)
    assert Method("identity", None, "mean_of_views").label == "Zero-shot on the mean of views ‡"
    assert Method("coral", None, "mean_of_views").label == "CORAL ‡ + zero-shot on the mean of views ‡"
    assert not Method("mine:Own", None, "ridge").looks_at_target_images


def test_which_predictors_learn_classes_is_theirs_to_say() -> None:
    for name in PREDICTORS.names():
        assert Method("identity", None, f"{name} (2)").learns_classes == PREDICTORS.component_class(name).learns_classes
    assert not Method("identity", None, "mine:Other").learns_classes
    assert not Method("identity", None, "unheard_of").learns_classes


def test_variants_of_a_predictor_are_lines_of_their_own_in_natural_order() -> None:
    shots = [row(predictor="few_shot", predictor_variant=f"{n} shots") for n in (16, 2, 1)]
    methods = by_method(frame([*shots, row(predictor="ridge")]))
    labels = [*(f"Few-shot probe ({n} shots)" for n in (1, 2, 16)), "Ridge probe"]
    assert [m.label for m in methods] == labels


def test_methods_stand_in_a_fixed_order_whatever_the_order_of_rows() -> None:
    wanted = [
        ("identity", None, "zero_shot"), ("pca", "largest", "zero_shot"), ("random", None, "zero_shot"),
        ("drop_top", None, "zero_shot"), ("leace", None, "zero_shot"), ("icm", "released", "zero_shot"),
        ("icm", "largest", "zero_shot"), ("identity", None, "linear_probe"), ("identity", None, "ridge"),
    ]  # fmt: skip
    rows = frame([row(projection=p, order=o, predictor=q) for p, o, q in reversed(wanted)])
    assert [(m.projection, m.order, m.predictor) for m in by_method(rows)] == wanted
