"""Rivals built from prompts, each against its formula or published algorithm in NumPy."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.method.arrays import Array, unit
from benchmark.method.prompts import Names, Prompt, PromptEmbeddings
from benchmark.method.subspace import PROJECTIONS, Basis, SourceMoments
from tests.method.subspace.test_rivals import CLASSES, D, Data

RNG = np.random.default_rng(11)
SPURIOUS, ALIKE = unit(RNG.standard_normal((3, D))), [unit(RNG.standard_normal((m, D))) for m in (3, 4)]
HARMFUL = [unit(RNG.standard_normal((m, D))) for m in (3, 2)]
HELPFUL = [unit(RNG.standard_normal((2, D))), unit(RNG.standard_normal((2, D)))]
OF_CLASSES = [unit(RNG.standard_normal((5, D))) for _ in range(CLASSES)]
SEEN = {"spurious": [SPURIOUS], "alike": ALIKE, "harmful": HARMFUL, "helpful": HELPFUL, "classes": OF_CLASSES}
PUBLISHED = {"name": "roboshot", "increase": [["a", "b"], ["c", "d"]]}
NAMES = Names(("dog", "big_cat"), ("photo", "oil_painting"), ("a photo of a {}.", "a {}."))


def sources(data: Data) -> SourceMoments:
    return SourceMoments(data.sources.environments, prompts=SEEN)


def fit(spec: object, lambda_: float, data: Data | None = None) -> Basis:
    return PROJECTIONS.create(spec).at(lambda_=lambda_).fit(sources(data or Data()))


# --- biased prompts --------------------------------------------------------------------------------------------------


def differences() -> Array:
    return np.array([a - b for group in ALIKE for a, b in combinations(group, 2)])


def without_spurious() -> Array:
    q = np.linalg.svd(SPURIOUS, full_matrices=False)[2]
    return np.asarray(np.eye(D) - q.T @ q)


@pytest.mark.parametrize("lambda_", [0.0, 3.0, 1000.0])
@pytest.mark.parametrize("orthogonal", [True, False])
def test_biased_prompts_is_the_closed_form_on_texts(lambda_: float, orthogonal: bool) -> None:
    d, text = differences(), RNG.standard_normal((5, D))
    p = np.linalg.inv(np.eye(D) + lambda_ * d.T @ d / len(d))
    p = without_spurious() @ p if orthogonal else p
    basis = fit({"name": "biased_prompts", "orthogonal": orthogonal}, lambda_)
    np.testing.assert_allclose(basis.of_texts(text), text @ p.T, atol=1e-10)
    np.testing.assert_array_equal(basis.vectors, np.eye(D))


def test_biased_prompts_minimises_what_it_says() -> None:
    """|P - P_0|^2 + (lambda / |S|) sum |P (p_i - p_j)|^2: no step away from it is better."""
    d, p_0, rng = differences(), without_spurious(), np.random.default_rng(0)

    def cost(p: Array) -> float:
        return float(((p - p_0) ** 2).sum() + 30.0 / len(d) * ((d @ p.T) ** 2).sum())

    best = fit("biased_prompts", 30.0).texts.T
    for step in (1e-2, 1e-4):
        assert all(cost(best + step * rng.standard_normal((D, D))) > cost(best) for _ in range(20))


def test_biased_prompts_asks_for_each_word_and_for_each_class_with_it() -> None:
    asked = PROJECTIONS.create("biased_prompts").prompts(NAMES)
    assert asked[:2] == (
        Prompt(("a photo of a photo.", "a photo."), "spurious", 0, environment=0),
        Prompt(("a photo of a oil painting.", "a oil painting."), "spurious", 0, environment=1),
    )
    assert asked[-1] == Prompt(("a photo of a big cat, oil painting.", "a big cat, oil painting."), "alike", 1, 1, 1)
    assert [(p.group, p.environment, p.label) for p in asked[2:]] == [(c, e, c) for c in (0, 1) for e in (0, 1)]
    own = PROJECTIONS.create({"name": "biased_prompts", "words": ["ink", "oil"], "spurious": ["an ink drawing"]})
    assert own.prompts(NAMES)[0] == Prompt(("an ink drawing",), "spurious")
    assert [(p.texts[0], p.environment) for p in own.prompts(NAMES)[1:3]] == [
        ("a photo of a dog, ink.", None), ("a photo of a dog, oil.", None)]  # fmt: skip
    given = PROJECTIONS.create({"name": "biased_prompts", "pairs": [["a", "b"], ["c", "d", "e"]]})
    assert [(p.texts, p.group) for p in given.prompts(NAMES)[2:]] == [
        (("a",), 0), (("b",), 0), (("c",), 1), (("d",), 1), (("e",), 1)]  # fmt: skip


# --- RoboShot --------------------------------------------------------------------------------------------------------


def orthonormal(groups: list[Array]) -> Array:
    """Gram and Schmidt of the differences of neighbours, which span all differences."""
    return np.asarray(np.linalg.qr(np.concatenate([np.diff(group, axis=0) for group in groups]).T)[0].T)


def test_roboshot_is_the_published_algorithm_up_to_lengths() -> None:
    x = unit(Data().every)
    for u in orthonormal(HARMFUL):
        x = unit(x - np.outer(x @ u, u))
    np.testing.assert_allclose(unit(fit("roboshot", 1.0).of_images(Data().every)), x, atol=1e-10)
    for v in orthonormal(HELPFUL):
        x = unit(x + np.outer(x @ v, v))
    basis = fit(PUBLISHED, 1.0)
    np.testing.assert_allclose(unit(basis.of_images(Data().every)), x, atol=1e-10)
    np.testing.assert_array_equal(basis.texts, np.eye(D))


def test_roboshot_takes_a_share_of_both_steps() -> None:
    u, v = orthonormal(HARMFUL), orthonormal(HELPFUL)
    z = Data().every
    rejected = z - 0.3 * z @ u.T @ u
    np.testing.assert_allclose(fit(PUBLISHED, 0.3).of_images(z), rejected + 0.3 * rejected @ v.T @ v, atol=1e-10)


def test_increasing_the_span_of_the_class_texts_changes_no_zero_shot_answer() -> None:
    text = unit(np.random.default_rng(5).standard_normal((6, D)))
    seen = {**SEEN, "helpful": [text]}
    images = unit(Data().every)
    answers = []
    for spec in ("roboshot", {"name": "roboshot", "increase": [["the", "classes"]]}):
        moments = SourceMoments(Data().sources.environments, prompts=seen)
        basis = PROJECTIONS.create(spec).at(lambda_=1.0).fit(moments)
        answers.append((basis.of_images(images) @ text.T).argmax(axis=1))
        assert spec == "roboshot" or not np.allclose(basis.vectors, fit("roboshot", 1.0).vectors)
    np.testing.assert_array_equal(*answers)


def test_roboshot_asks_for_words_or_for_what_it_is_given() -> None:
    made = PROJECTIONS.create("roboshot").prompts(NAMES)
    assert [(p.texts[0], p.role, p.environment) for p in made] == [
        ("a photo of a photo.", "harmful", 0), ("a photo of a oil painting.", "harmful", 1)]  # fmt: skip
    own = PROJECTIONS.create({"name": "roboshot", "reject": [["wet", "dry"]], "increase": [["webbed", "clawed"]]})
    assert own.prompts(NAMES) == (
        Prompt(("wet",), "harmful"), Prompt(("dry",), "harmful"), Prompt(("webbed",), "helpful"),
        Prompt(("clawed",), "helpful"),
    )  # fmt: skip


# --- within the prompts of classes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lambda_", [0.03, 10.0])
def test_within_prompts_shrinks_the_covariance_over_templates_within_classes(lambda_: float) -> None:
    data = Data()
    c_p = np.mean([(p - of.mean(axis=0))[:, None] * (p - of.mean(axis=0)) for of in OF_CLASSES for p in of], axis=0)
    n = np.trace(data.nuisance("interventions")) * c_p / np.trace(c_p)
    f = data.c_z @ np.linalg.inv(data.c_z + lambda_ * n)
    images = fit({"name": "within_prompts", "sides": "images"}, lambda_, data)
    np.testing.assert_allclose(images.vectors.T, f, atol=1e-9)
    both = fit("within_prompts", lambda_, data)
    np.testing.assert_allclose(both.vectors.T @ both.vectors.T, f, atol=1e-9)


def test_within_prompts_asks_for_each_class_in_each_of_its_templates() -> None:
    own = PROJECTIONS.create({"name": "within_prompts", "templates": ["a {}", "the {}"]})
    assert [(p.texts, p.group, p.label) for p in own.prompts(NAMES)] == [
        (("a dog",), 0, 0), (("the dog",), 0, 0), (("a big cat",), 1, 1), (("the big cat",), 1, 1)]  # fmt: skip
    for name, count in (("openai", 80), ("simple", 7)):
        prompts = PROJECTIONS.create({"name": "within_prompts", "templates": name}).prompts(NAMES)
        assert len({p.texts for p in prompts}) == len(prompts) == 2 * count
    with pytest.raises(IcmBenchError, match="give two or more"):
        PROJECTIONS.create({"name": "within_prompts", "templates": ["a {}"]})
    with pytest.raises(IcmBenchError, match=r"must have exactly one \{\}"):
        PROJECTIONS.create({"name": "within_prompts", "templates": ["a {}", "a photo"]})


# --- all of them -----------------------------------------------------------------------------------------------------

ALL: list[Any] = [
    "within_prompts", "biased_prompts", {"name": "biased_prompts", "orthogonal": False}, "roboshot", PUBLISHED,
]  # fmt: skip


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_the_scale_of_image_embeddings_does_not_matter_and_the_grid_has_eight_values(spec: Any) -> None:
    for scale in (1e-3, 1e3):
        plain, other = fit(spec, 0.7), fit(spec, 0.7, Data(scale=scale))
        np.testing.assert_allclose(other.vectors, plain.vectors, atol=1e-8)
        np.testing.assert_allclose(other.texts, plain.texts, atol=1e-8)
    projection = PROJECTIONS.create(spec)
    assert len(projection.own_lambdas or ()) == 8
    assert projection.full_rank_only
    assert not projection.uses_labels
    if spec != "biased_prompts":  # which removes directions whatever lambda is
        first = fit(spec, (projection.own_lambdas or ())[0])
        np.testing.assert_allclose(first.vectors, np.eye(D), atol=1e-12)
        np.testing.assert_allclose(first.texts, np.eye(D), atol=1e-12)


@pytest.mark.parametrize("name", ["within_prompts", "biased_prompts", "roboshot"])
def test_without_prompts_there_is_no_fit(name: str) -> None:
    with pytest.raises(ValueError, match="There are no prompts with the role"):
        PROJECTIONS.create(name).fit(Data().sources)


@pytest.mark.parametrize(
    ("name", "role"), [("within_prompts", "classes"), ("biased_prompts", "alike"), ("roboshot", "harmful")]
)
def test_prompts_that_say_the_same_are_refused(name: str, role: str) -> None:
    alone = [group[:1] for group in (HARMFUL if role == "harmful" else ALIKE)]
    moments = SourceMoments(Data().sources.environments, prompts={**SEEN, role: alone})
    with pytest.raises(ValueError, match=r"all the same|no two prompts"):
        PROJECTIONS.create(name).fit(moments)


def test_a_fit_sees_prompts_of_its_sources_and_classes_and_those_of_none() -> None:
    prompts = (
        Prompt(("a",), "x", 0), Prompt(("b",), "x", 0, environment=0), Prompt(("c",), "x", 1, environment=1),
        Prompt(("d",), "x", 2, label=0), Prompt(("e",), "y", 0, 0, 1), Prompt(("f",), "y", 1, 1, 0),
    )  # fmt: skip
    embedded = PromptEmbeddings(prompts, np.arange(6.0)[:, None], base=1)

    def visible(environments: list[int], halves: list[str]) -> dict[str, list[list[float]]]:
        return {role: [g.ravel().tolist() for g in of] for role, of in embedded.visible(environments, halves).items()}

    assert visible([0, 1], ["base", "new"]) == {"x": [[0, 1], [2], [3]], "y": [[4], [5]]}
    assert visible([1], ["base"]) == {"x": [[0], [2], [3]], "y": [[5]]}
    assert visible([0], ["new"]) == {"x": [[0, 1]], "y": [[4]]}


def test_names_of_environments_take_two_sources_and_given_prompts_are_a_line_of_their_own() -> None:
    create, own = PROJECTIONS.create, [["wet", "dry"]]
    assert [create(name).min_sources for name in ("biased_prompts", "roboshot", "within_prompts")] == [2, 2, 1]
    assert create({"name": "biased_prompts", "pairs": own}).min_sources == 1
    assert create({"name": "roboshot", "words": own[0]}).min_sources == 1
    variants = [
        create(spec).variant for spec in (
            *ALL, {"name": "biased_prompts", "pairs": own}, {"name": "within_prompts", "templates": "simple"},
        )
    ]  # fmt: skip
    assert variants == ["", "", "calibrated alone", "", "own prompts", "own prompts", "simple"]
