"""What can change a number is in the id of a trial, and what cannot is not: one fact after another is changed."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from benchmark.backbones.facts import BackboneFacts
from benchmark.commands.preparing.prepare import _subject
from benchmark.datasets.catalog import class_subset
from benchmark.datasets.manifest import Manifest, imported_manifest
from benchmark.recipe.loading import parse_recipe
from benchmark.sweep.subject import Subject
from benchmark.sweep.trials import trials_of

FACTS = BackboneFacts("tiny", "weights", "architecture", 8, {"size": [32, 32]}, 100.0, False, "float32")
IMAGES: dict[str, list[Any]] = {
    "path": [f"{i}.png" for i in range(12)],
    "environment": list("xyz") * 4,
    "class_name": ["cat"] * 3 + ["cow"] * 3 + ["dog"] * 3 + ["hen"] * 3,
    "group": [None] * 12,
}
SET = {"name": "some", "kinds": ["grayscale", "color_jitter"]}
CONTENT: dict[str, Any] = {
    "name": "one",
    "datasets": [{"name": "first", "root": "first"}],
    "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
    "interventions": {"kinds": ["grayscale", "color_jitter", "invert"]},
    "sweep": {
        "projections": ["icm"], "predictors": ["zero_shot"], "seeds": [0], "lambdas": [1], "ranks": [2, 8],
        "intervention_sets": [SET],
    },
}  # fmt: skip
Change = Mapping[str, Any]


def changed(content: Any, change: Change) -> Any:
    """Return a recipe with other values, by dotted names."""
    content = dict(content)
    for name, value in change.items():
        first, _, rest = name.partition(".")
        content[first] = changed(content.get(first, {}), {rest: value}) if rest else value
    return content


def manifest_of(name: str, change: Change) -> Manifest:
    """Images whose ids say what they are of; `pixels` stands for their bytes."""
    wordnet = {"class_name": [*list(class_subset(name) or ())[:4] * 3]} if class_subset(name) else {}
    columns = {**IMAGES, **wordnet, **{k: v for k, v in change.items() if k != "pixels"}}
    told = zip(columns["path"], columns["environment"], columns["class_name"], strict=True)
    columns["image_id"] = [f"{name} {' '.join(one)} {change.get('pixels', '')}" for one in told]
    columns["content"] = columns["image_id"]
    return imported_manifest(name, "nowhere", pa.table({k: pa.array(v, pa.string()) for k, v in columns.items()}))


def id_of(
    recipe: Change | None = None,
    facts: Change | None = None,
    images: Change | None = None,
    subject: Change | None = None,
    of: int = 0,
) -> str:
    """Return the id of the last trial of a recipe on its first data set: of a placebo, or of a fold, where it has some.

    Args:
        recipe: what differs from `CONTENT`, by dotted names.
        facts: what differs of the backbone.
        images: what differs of the images of one data set.
        subject: what differs of it otherwise.
        of: position of that data set in the recipe.
    """
    parsed = parse_recipe(changed(CONTENT, recipe or {}))
    subjects: list[Subject] = []
    for number, dataset in enumerate(parsed.datasets):
        mine = images if number == of and images else {}
        manifest = manifest_of(dataset.name, mine)
        made = _subject(parsed, manifest, parsed.backbones[0], replace(FACTS, **(facts or {})))
        subjects.append(replace(made, **(subject or {})) if number == of else made)
    trials = [trial for trial in trials_of(parsed, subjects) if trial.subject.manifest.name == parsed.datasets[0].name]
    return trials[-1].id


FLOAT16: Change = {"facts": {"precision": "float16"}}
PROBE: Change = {"recipe": {"sweep.predictors": ["linear_probe"], "sweep.selection_images": 3}}
ICM: Change = {"recipe": {"sweep.projections": [{"name": "icm", "order": "largest"}]}}
PROMPTS: Change = {"recipe": {"sweep.projections": [{"name": "within_prompts"}]}}
FOLDS: Change = {"recipe": {"sweep.folds": 3}}
OPEN: Change = {"recipe": {"sweep.protocols": ["open_class"]}}
TEXTS: Change = {
    "recipe": {
        "interventions.text": {"per_class": 2},
        "sweep.intervention_sets": [{**SET, "kinds": ["grayscale", "text"]}],
    }
}
CLUSTERS: Change = {"recipe": {"datasets": [{"name": "first", "root": "first", "environments": "cluster:2"}]}}
LENT: Change = {
    "recipe": {
        "datasets": [{"name": name, "root": name} for name in ("first", "second", "third")],
        "sweep.intervention_sets": [SET, {**SET, "name": "lent", "placebo": "borrowed"}],
    }
}
ROTATED: Change = {"recipe": {"sweep.intervention_sets": [SET, {**SET, "name": "turned", "placebo": "rotated"}]}}
SHIFT: Change = {
    "recipe": {
        "datasets": [{"name": name, "root": name} for name in ("ImageNet", "ImageNetV2")],
        "sweep.protocols": ["imagenet_shift"],
    }
}
OTHER_ENVIRONMENTS = {"environment": list("zyx") * 4}
OTHER_CLASSES = {"class_name": ["ape", *IMAGES["class_name"][1:]]}


def of_set(**changes: Any) -> Change:
    return {"recipe": {"sweep.intervention_sets": [{**SET, **changes}]}}


# What a trial is, and one fact that is another one: of recipe, backbone, images of a data set, or what is known of it.
NUMBERS: dict[str, tuple[Change, Change]] = {
    "logit scale": ({}, {"facts": {"logit_scale": 15.5}}),
    "weights": ({}, {"facts": {"fingerprint": "others"}}),
    "architecture": ({}, {"facts": {"architecture": "another"}}),
    "preprocessing": ({}, {"facts": {"preprocess": {"size": [64, 64]}}}),
    "precision": ({}, FLOAT16),
    "engine at low precision": (FLOAT16, {"facts": {"precision": "float16", "engine": "openvino"}}),
    "bytes of an image": ({}, {"images": {"pixels": "of another"}}),
    "environments of images": ({}, {"images": OTHER_ENVIRONMENTS}),
    "class of an image": ({}, {"images": OTHER_CLASSES}),
    "order of the images": ({}, {"images": {"path": [f"{20 - i}.png" for i in range(12)]}}),
    "groups": ({}, {"images": {"group": ["a", "b"] * 6}}),
    "images that cannot be read": ({}, {"subject": {"unreadable": "some"}}),
    "decoding": ({}, {"recipe": {"images.jpeg_draft": False}}),
    "orientation of images": ({}, {"recipe": {"images.upright": False}}),
    "resize of images": ({}, {"recipe": {"images.resize": "torch"}}),
    "where interventions act": ({}, {"recipe": {"interventions.apply_at": "source"}}),
    "seed of views": ({}, {"recipe": {"interventions.seed": 1}}),
    "strength of a kind": (
        {},
        {"recipe": {
            "interventions.kinds": ["grayscale", {"name": "color_jitter", "brightness": 0.1}],
            "sweep.intervention_sets": [{**SET, "kinds": ["grayscale", "color_jitter(brightness=0.1)"]}],
        }},
    ),
    "templates": ({}, {"recipe": {"prompts.templates": ["a drawing of a {}."]}}),
    "order of templates": (
        {"recipe": {"prompts.templates": ["a {}.", "the {}."]}},
        {"recipe": {"prompts.templates": ["the {}.", "a {}."]}},
    ),
    "templates of another data set": ({}, {"recipe": {"prompts.by_dataset": {"first": ["a {}."]}}}),
    "texts of the classes": ({}, {"subject": {"texts": "texts/others.parquet"}}),
    "classes in prompts of a projection": (PROMPTS, {**PROMPTS, "images": OTHER_CLASSES, "subject": {"texts": ""}}),
    "templates of a projection": (PROMPTS, {"recipe": {"sweep.projections": [{"name": "within_prompts", "templates": "simple"}]}}),
    "pairs of texts": (TEXTS, {"recipe": {**TEXTS["recipe"], "interventions.text": {"per_class": 3}}}),
    "seed": ({}, {"recipe": {"sweep.seeds": [1]}}),
    "lambda": ({}, {"recipe": {"sweep.lambdas": [2]}}),
    "ranks": ({}, {"recipe": {"sweep.ranks": [4, 8]}}),
    "scale": ({}, {"recipe": {"sweep.normalize": ["before"]}}),
    "tested images": ({}, {"recipe": {"sweep.test_splits": ["full"]}}),
    "protocol": ({}, {"recipe": {"sweep.protocols": ["in_domain"]}}),
    "rounding of base classes": (OPEN, {"recipe": {**OPEN["recipe"], "sweep.base_classes": "floor"}}),
    "folds": ({}, FOLDS),
    "number of folds": (FOLDS, {"recipe": {"sweep.folds": 4}}),
    "projection": ({}, {"recipe": {"sweep.projections": ["pca"]}}),
    "parameter of a projection": (ICM, {"recipe": {"sweep.projections": [{"name": "icm", "order": "released"}]}}),
    "predictor": ({}, {"recipe": {"sweep.predictors": ["class_means"]}}),
    "parameter of a predictor": (
        PROBE,
        {"recipe": {**PROBE["recipe"], "sweep.predictors": [{"name": "linear_probe", "C": 2}]}},
    ),
    "images by which is chosen": (PROBE, {"recipe": {**PROBE["recipe"], "sweep.selection_images": 2}}),
    "validation images of a fit to all images": ({}, {"recipe": {"sweep.selection_images": 2}}),
    "metric by which is chosen": ({}, {"recipe": {"datasets": [{"name": "first", "root": "first", "metric": "macro_f1"}]}}),
    "choice by class-balanced accuracy": ({}, {"recipe": {"sweep.choose_by": "balanced"}}),
    "kinds": ({}, of_set(kinds=["grayscale"])),
    "weights of kinds": ({}, of_set(weights=[1, 2])),
    "pairing": ({}, of_set(pairing="random_one")),
    "share of pairs": ({}, of_set(pairs=0.5)),
    "seed of pairs": (of_set(pairs=0.5), of_set(pairs=0.5, seed=1)),
    "seed of a placebo": (
        ROTATED,
        {"recipe": {"sweep.intervention_sets": [SET, {**SET, "name": "turned", "placebo": "rotated", "seed": 1}]}},
    ),
    "clusters": ({}, CLUSTERS),
    "number of clusters": (
        CLUSTERS,
        {"recipe": {"datasets": [{"name": "first", "root": "first", "environments": "cluster:3"}]}},
    ),
    "images of a lender": (LENT, {**LENT, "images": {"pixels": "of another"}, "of": 1}),
    "images of a lender that cannot be read": (LENT, {**LENT, "subject": {"unreadable": "some"}, "of": 1}),
    "lender": (
        LENT,
        {
            "recipe": {
                **LENT["recipe"],
                "sweep.intervention_sets": [SET, {**SET, "name": "lent", "placebo": "borrowed", "lender": "third"}],
            }
        },
    ),
    "images of a shift": (SHIFT, {**SHIFT, "images": {"pixels": "of another"}, "of": 1}),
    "images of a shift that cannot be read": (SHIFT, {**SHIFT, "subject": {"unreadable": "some"}, "of": 1}),
}  # fmt: skip
NO_NUMBERS: dict[str, tuple[Change, Change]] = {
    "name of the recipe": ({}, {"recipe": {"name": "another"}}),
    "other trials of the recipe": ({}, {"recipe": {"sweep.search": None, "datasets": LENT["recipe"]["datasets"]}}),
    "how it is run": ({}, {"recipe": {"run.batch_size": 3}}),
    "engine at full precision": ({}, {"facts": {"engine": "openvino"}}),
    "notes on a backbone": ({}, {"facts": {"notes": ("a note",), "flops": 1.0}}),
    "where the images lie": ({}, {"recipe": {"datasets": [{"name": "first", "root": "elsewhere"}]}}),
    "kinds that the set does not have": ({}, {"recipe": {"interventions.kinds": ["grayscale", "color_jitter"]}}),
    "pairs of texts that the set does not have": ({}, {"recipe": {"interventions.text": {"per_class": 3}}}),
    "another data set": (LENT, {**LENT, "images": {"pixels": "of another"}, "of": 2}),
    "seed of views that draw nothing": (
        of_set(kinds=["grayscale"]),
        {"recipe": {**of_set(kinds=["grayscale"])["recipe"], "interventions.seed": 1}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("fact", NUMBERS)
def test_a_fact_that_can_change_a_number_changes_the_id(fact: str) -> None:
    before, after = NUMBERS[fact]
    assert id_of(**before) == id_of(**before)
    assert id_of(**after) != id_of(**before)


@pytest.mark.parametrize("fact", NO_NUMBERS)
def test_a_fact_that_changes_no_number_leaves_the_id(fact: str) -> None:
    before, after = NO_NUMBERS[fact]
    assert id_of(**after) == id_of(**before)


def test_a_set_of_all_kinds_has_those_of_the_lender_where_they_are_lent() -> None:
    """As of imported embeddings, where one data set may have a kind that another one lacks."""
    sets = [{"name": "all"}, {"name": "lent", "placebo": "borrowed"}]
    recipe = parse_recipe(changed(CONTENT, {**LENT["recipe"], "sweep.intervention_sets": sets}))
    subjects = [_subject(recipe, manifest_of(d.name, {}), recipe.backbones[0], FACTS) for d in recipe.datasets]
    subjects[0] = replace(subjects[0], views=subjects[0].views[:-1])  # without inverted images

    def lent(version: str) -> str:
        *others, last = subjects[1].views
        lender = replace(subjects[1], views=(*others, replace(last, depends_on={**last.depends_on, "of": version})))
        trials = trials_of(recipe, [subjects[0], lender, subjects[2]])
        return next(t.id for t in trials if t.lender and t.subject.manifest.name == "first")

    assert lent("one") == lent("one") != lent("another")
