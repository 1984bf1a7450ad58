"""Planted sets: a function of what the recipe says, each concept in one place, changes in the numbers that are asked for."""

import csv
import hashlib
import io
import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import MAX_ENVIRONMENTS, DatasetSpec
from benchmark.demo import emoji_styles, planted
from benchmark.demo.emoji import draw
from benchmark.demo.emoji_styles import CLASS_COUNTS
from benchmark.demo.planted import Planted, Shift, changed, changes_of_classes, contents, deal
from benchmark.method.interventions.photometric import Grayscale
from benchmark.recipe.loading import load_recipe, parse_recipe
from tests.conftest import REPOSITORY

CLASSES = {name: [f"{name}-{i}" for i in range(count)] for name, count in CLASS_COUNTS.items()}
FOUR = ("noto", "twemoji", "fluent", "openmoji")
STRENGTH = {"a": 0.0, "b": 0.3, "c": 0.6, "d": 1.0}
CORRELATION = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.1}
SPEC = {"name": "planted", "of": "emoji_styles", "from": "noto", "shift": "tint"}
DOT = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -4 32 32"><circle cx="14" cy="12" r="9" fill="#c84"/></svg>'


def recipe(**changes: Any) -> dict[str, Any]:
    return {"name": "t", "datasets": [SPEC | changes], "backbones": [{"name": "MiniLiT"}]}


def pixels(svg: str) -> NDArray[np.int64]:
    pytest.importorskip("resvg_py")
    return np.asarray(Image.open(io.BytesIO(draw(svg))).convert("RGB")).astype(np.int64)


def tree(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# What a set is made of.


@pytest.mark.parametrize("styles", [("noto",), ("noto", "twemoji", "openmoji"), FOUR])
@pytest.mark.parametrize("seed", range(3))
def test_each_drawing_stands_in_one_environment_and_classes_are_spread_evenly(
    styles: tuple[str, ...], seed: int
) -> None:
    images = contents(Planted(styles, {"tint": STRENGTH}, CORRELATION, seed), CLASSES)
    assert len({image.path for image in images}) == len(images) == 284 * len(styles)
    places = defaultdict(list)
    for image in images:
        places[image.concept].append(image.environment)
    assert sorted(places) == sorted(concept for concepts in CLASSES.values() for concept in concepts)
    assert {len(set(found)) for found in places.values()} == {len(styles)}  # never two of one in an environment
    assert Counter(i.environment for i in images) == dict.fromkeys("abcd", 71 * len(styles))
    for name, count in CLASS_COUNTS.items():
        of_class = Counter(i.environment for i in images if i.class_name == name)
        assert max(of_class.values()) - min(of_class.values()) <= len(styles)
        assert sum(of_class.values()) == count * len(styles)


@pytest.mark.parametrize("styles", [("noto", "twemoji"), FOUR])
def test_environments_have_equally_many_of_every_class_in_every_style(styles: tuple[str, ...]) -> None:
    images = contents(Planted(styles, {"tint": STRENGTH}), CLASSES)
    assert Counter((i.environment, i.style) for i in images) == {(e, s): 71 for e in "abcd" for s in styles}
    for name in CLASSES:
        counts = Counter((i.environment, i.style) for i in images if i.class_name == name)
        assert max(counts.values()) - min(counts[e, s] for e in "abcd" for s in styles) <= 1
    there = [{i.concept for i in images if (i.environment, i.style) == ("a", style)} for style in styles]
    assert not set.intersection(*there)


def test_the_deal_depends_on_seed_and_styles_alone() -> None:
    def places(*args: Any) -> dict[str, str]:
        return {image.path.split("/", 2)[2]: image.environment for image in contents(Planted(*args), CLASSES)}

    first = places(("noto", "fluent"), {"tint": STRENGTH}, CORRELATION, 0)
    other_order = dict(reversed(STRENGTH.items()))
    assert places(("fluent", "noto"), {"none": other_order}, None, 0) == first
    assert places(("noto", "fluent"), {"tint": STRENGTH}, CORRELATION, 1) != first
    dealt = deal(CLASSES, ("noto", "fluent"), "abcd", 0)
    assert {f"{concept}-{style}.png": environment for (concept, style), environment in dealt.items()} == first
    assert deal({k: v[::-1] for k, v in reversed(CLASSES.items())}, ("fluent", "noto"), "abcd", 0) == dealt


@pytest.mark.parametrize("styles", [("noto",), ("noto", "twemoji", "openmoji")])
@pytest.mark.parametrize("seed", range(3))
def test_a_class_carries_its_own_change_in_the_share_that_is_asked_for(styles: tuple[str, ...], seed: int) -> None:
    images = contents(Planted(styles, {"texture": STRENGTH}, CORRELATION, seed), CLASSES)
    own = changes_of_classes(CLASSES, seed)
    assert sorted(own.values()) == list(range(10))
    for environment, share in CORRELATION.items():
        here = [image for image in images if image.environment == environment]
        assert abs(sum(i.change == own[i.class_name] for i in here) - share * len(here)) <= 0.5
        for name in CLASSES:
            of_class = [i.change == own[name] for i in here if i.class_name == name]
            assert abs(sum(of_class) - share * len(of_class)) < 1
    others = Counter(i.change for i in images if i.environment == "d" and i.change != own[i.class_name])
    assert len(others) == 10  # the rest is drawn from all of the others


def test_which_images_carry_what_differs_with_the_seed() -> None:
    def carried(seed: int) -> list[bool]:
        own = changes_of_classes(CLASSES, seed)
        images = contents(Planted(("noto",), {"tint": {"a": 1, "b": 1}}, {"a": 0.5, "b": 0.5}, seed), CLASSES)
        return [i.change == own[i.class_name] for i in images]

    assert changes_of_classes(CLASSES, 0) != changes_of_classes(CLASSES, 1)
    assert carried(0) == carried(0) != carried(1)


def test_without_a_correlation_all_images_carry_the_same_change() -> None:
    assert {image.change for image in contents(Planted(("noto",), {"tint": STRENGTH}), CLASSES)} == {0}


# What a change does to a drawing.


@pytest.mark.parametrize("shift", ["dusk", "tint", "texture", "none"])
def test_strength_0_leaves_the_drawing(shift: Shift) -> None:
    spec = Planted(("noto",), {shift: {"a": 0.0, "b": 1.0}})
    assert [changed(DOT, spec.sizes("a"), change) for change in range(10)] == [DOT] * 10
    assert (changed(DOT, spec.sizes("b"), 3) == DOT) == (shift == "none")


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_a_tint_multiplies_every_pixel_by_one_colour(strength: float) -> None:
    plain = pixels(DOT)
    lacks = {4: (0, 1, 1), 5: (0, 0.4, 1), 9: (1, 0, 0)}  # red, orange, cyan: the share of each channel that goes
    for change, share in lacks.items():
        kept = np.rint(255 * (1 - strength * planted.TINT * np.array(share)))
        tinted = pixels(changed(DOT, {"tint": strength}, change))
        assert np.abs(tinted - plain * kept / 255).max() <= 1
        assert tinted[0, 0].tolist() == kept.tolist()


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_a_dusk_takes_the_shares_of_colour_and_light_that_are_asked_for(strength: float) -> None:
    plain, dark = pixels(DOT), pixels(changed(DOT, {"dusk": strength}, 3))
    grey = plain @ np.array([0.2989, 0.587, 0.114])
    expected = ((1 - strength) * plain + strength * grey[..., None]) * (1 - 0.9 * strength)
    assert np.abs(dark - expected).max() <= 1.5
    if strength == 1:  # a tenth of the light of what the intervention makes of the drawing
        view = Grayscale().views(torch.from_numpy(plain.astype(np.uint8)).permute(2, 0, 1)[None], ["x"], 0)
        assert np.abs(dark - 0.1 * view[0].permute(1, 2, 0).numpy()).max() <= 1.5


def test_two_shifts_are_the_one_after_the_other() -> None:
    hatched = pixels(changed(DOT, {"texture": 0.6}, 0))
    both = pixels(changed(DOT, {"dusk": 0.7, "texture": 0.6}, 0))
    grey = hatched @ np.array([0.2989, 0.587, 0.114])
    assert np.abs(both - (0.3 * hatched + 0.7 * grey[..., None]) * 0.37).max() <= 1.5


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
def test_hatching_lies_behind_the_drawing_in_lines_that_get_darker(strength: float) -> None:
    plain, hatched = pixels(DOT), pixels(changed(DOT, {"texture": strength}, 0))
    ground = (plain == 255).all(axis=2)
    dot = (plain == plain[112, 98]).all(axis=2)
    assert ground.any()
    assert dot.any()
    np.testing.assert_array_equal(hatched[dot], plain[dot])
    from_centre = np.abs(np.arange(224) + 0.5 - 112)
    off = np.abs(from_centre % 30 - 15)  # of the nearest line's middle
    inked, spared = off < 6 / 2 - 0.5, off > 6 / 2 + 0.5
    assert inked.any()
    assert np.abs(hatched[:, inked][ground[:, inked]] - (255 - strength * (255 - 60))).max() <= 1
    assert set(hatched[:, spared][ground[:, spared]].ravel()) == {255}


def test_hatching_has_a_direction_of_its_own_for_every_change() -> None:
    upright, level = (pixels(changed(DOT, {"texture": 1.0}, change))[:, :, 0] for change in (0, 5))
    assert np.ptp(upright[:10], axis=0).max() == np.ptp(level[:, :10], axis=1).max() == 0
    assert np.ptp(upright[0]) == np.ptp(level[:, 0]) == 255 - planted.INK
    hatched = [changed(DOT, {"texture": 1.0}, change) for change in range(10)]
    assert len(set(hatched)) == 10


def test_it_draws_what_its_version_stands_for() -> None:
    """If this fails, raise `planted.VERSION` and write the new values down under it, or undo the change."""
    pytest.importorskip("resvg_py")
    known = {2: ("4b652479cd10", "c51771e700fb", "0ab2d256af84")}
    dealt = contents(Planted(("noto", "fluent"), {"tint": STRENGTH}, CORRELATION, 5), CLASSES)
    drawn = b"".join(draw(changed(DOT, {shift: 0.6}, 3)) for shift in ("tint", "texture", "dusk"))
    assert known[planted.VERSION] == (
        hashlib.sha256(repr([(i.path, i.change) for i in dealt]).encode()).hexdigest()[:12],
        hashlib.sha256(drawn).hexdigest()[:12],
        planted.content_hash(Planted(("noto",), {"tint": STRENGTH})),
    )


# The set in the cache.


@pytest.fixture(scope="module")
def spec() -> DatasetSpec:
    strength = {"left": 0, "right": 0.5}
    return DatasetSpec.model_validate(SPEC | {"from": ["noto", "line_art"], "strength": strength})


@pytest.fixture(scope="module")
def folder(spec: DatasetSpec, demo_set: Path) -> Path:  # noqa: ARG001
    pytest.importorskip("resvg_py")
    return planted.build(spec.planted)


@pytest.mark.long("a planted set has other drawings than the demo's, or no groups")
def test_it_is_built_once_and_elsewhere_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resvg_py")
    spec = DatasetSpec.model_validate(SPEC | {"shift": "texture"}).planted
    folder = planted.build(spec)
    assert planted.build(spec) == folder
    emoji_styles.drawings()  # are read from the packages of the cache that was
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path))
    again = planted.build(spec)
    assert again.parent == tmp_path / "datasets"
    assert [path.name for path in again.parent.iterdir()] == [folder.name]  # nothing is left half done
    assert tree(again) == tree(folder)


@pytest.mark.long("a planted set has other drawings than the demo's, or no groups")
def test_drawings_at_strength_0_are_those_of_emoji_styles(folder: Path) -> None:
    drawings = emoji_styles.drawings()
    files = sorted((folder / "left" / "bird").glob("*.png"))
    assert len(files) == 18
    for file in files:
        concept, _, style = file.stem.rpartition("-")
        assert file.read_bytes() == draw(drawings[style]["bird"][concept])
    plain = draw(drawings["noto"]["mammal"]["dog"])
    (dog,) = folder.glob("*/mammal/dog-noto.png")
    assert (dog.read_bytes() == plain) == (dog.parts[-3] == "left")


@pytest.mark.long("a planted set has other drawings than the demo's, or no groups")
def test_the_drawings_of_a_concept_are_a_group(folder: Path, spec: DatasetSpec) -> None:
    with (folder / "groups.csv").open(newline="", encoding="utf-8") as stream:
        groups = {row["path"]: row["group"] for row in csv.DictReader(stream)}
    manifest = read_manifest(spec)
    assert manifest.groups == [groups[path] for path in manifest.table["path"].to_pylist()]
    assert set(Counter(groups.values()).values()) == {2}
    assert manifest.counts == {"left": 284, "right": 284}
    assert manifest.notes() == []


@pytest.mark.long("a planted set has other drawings than the demo's, or no groups")
def test_one_style_has_no_groups() -> None:
    pytest.importorskip("resvg_py")
    manifest = read_manifest(DatasetSpec.model_validate(SPEC | {"shift": "texture"}))
    assert manifest.groups is None
    assert manifest.counts == dict.fromkeys("abcd", 71)
    assert manifest.classes == sorted(CLASS_COUNTS)


def test_the_controls_are_planned_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))
    file = REPOSITORY / "jobs" / "recipes" / "controls.yaml"
    assert main(["plan", str(file), "--json", "--store", str(tmp_path / "store")]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert not (tmp_path / "cache").exists()
    for planned, dataset in zip(sets, load_recipe(file).datasets, strict=True):
        images = contents(dataset.planted, CLASSES)
        assert planned["images"] == len(images)
        assert planned["environments"] == len({image.environment for image in images})


def test_the_controls_are_two_by_two_and_none_and_a_reversed_correlation() -> None:
    controls = load_recipe(REPOSITORY / "jobs" / "recipes" / "controls.yaml")
    sets = {d.name: d.planted for d in controls.datasets}
    seen = {n: any(len({s[e] for e in "abc"}) > 1 for s in p.shifts.values()) for n, p in sets.items()}
    cells = {(*p.shifts, seen[n]) for n, p in sets.items() if p.correlation is None and "none" not in p.shifts}
    assert cells == {("dusk", "texture", True), ("dusk", False), ("texture", True), ("texture", False)}
    found = {d.name.removeprefix("planted-"): d.must_be_found for d in controls.datasets}
    assert {name: (one.parts, one.predictor, one.held_out) for name, one in found.items() if one} == {
        "both": (("interventions", "environments"), "zero_shot", "d"),
        "dusk-unseen": (("interventions",), "zero_shot", "d"),
        "texture-seen": (("environments",), "zero_shot", "d"),
        "texture-unseen": ((), "zero_shot", "d"),
        "none": ((), "zero_shot", None),
        "spurious": ((), "linear_probe", "d"),
        "lender": ((), "zero_shot", None),
    }
    assert list(sets["planted-none"].shifts) == ["none"]
    correlation = sets["planted-spurious"].correlation
    assert correlation is not None
    assert min(correlation[e] for e in "abc") > 0.5 > 0.2 > correlation["d"]
    assert not seen["planted-spurious"]
    assert {p.seed for p in sets.values()} == {0}


# What a recipe may say.


def test_other_content_has_another_place() -> None:
    base = {"from": "noto", "shift": "tint", "correlation": CORRELATION, "seed": 0}
    changes: list[dict[str, Any]] = [
        {}, {"from": "fluent"}, {"from": "all"}, {"shift": "texture"}, {"seed": 1}, {"correlation": None},
        {"correlation": CORRELATION | {"a": 0.5}}, {"strength": STRENGTH | {"a": 0.1}},
    ]  # fmt: skip
    specs = [DatasetSpec.model_validate(SPEC | base | change) for change in changes]
    assert len({planted.content_hash(spec.planted) for spec in specs}) == len(specs)
    named = DatasetSpec.model_validate(SPEC | base | {"name": "planted-x", "strength": STRENGTH})
    assert planted.content_hash(named.planted) == planted.content_hash(specs[0].planted)


def test_one_style_a_list_or_all() -> None:
    assert DatasetSpec.model_validate(SPEC).planted.styles == ("noto",)
    assert DatasetSpec.model_validate(SPEC | {"from": ["noto", "fluent"]}).planted.styles == ("noto", "fluent")
    assert DatasetSpec.model_validate(SPEC | {"from": "all"}).planted.styles == tuple(sorted(emoji_styles.ENVIRONMENTS))


def test_the_recipe_reads_back_as_itself_and_its_hash_notices_the_shift() -> None:
    first = parse_recipe(recipe(correlation=CORRELATION))
    again = parse_recipe(json.loads(first.model_dump_json()))
    assert again == first
    assert first.model_dump(mode="json")["datasets"][0]["from"] == ["noto"]
    assert first.hash() == again.hash() != parse_recipe(recipe(correlation=CORRELATION, shift="none")).hash()
    assert first.located()[0].root is None


def test_what_is_expected_can_be_said_of_any_set_and_changes_no_hash() -> None:
    said = {"parts": ["environments"], "held_out": "d"}
    first, second = parse_recipe(recipe(expected=said)), parse_recipe(recipe())
    assert first.hash() == second.hash()
    assert parse_recipe(json.loads(first.model_dump_json())) == first
    assert first.datasets[0].must_be_found != second.datasets[0].must_be_found
    assert (one := DatasetSpec.model_validate({"name": "PACS", "expected": {}}).must_be_found)
    assert (one.parts, one.predictor, one.held_out) == ((), "zero_shot", None)
    assert set(DatasetSpec(name="PACS").model_dump()) == {"name", "root", "layout", "columns"}  # and of no shift
    assert DatasetSpec(name="PACS").must_be_found is None


def two_shifts(dusk: dict[str, float], texture: dict[str, float]) -> dict[str, Any]:
    return {"shift": ["dusk", "texture"], "strength": {"dusk": dusk, "texture": texture}}


@pytest.mark.parametrize(
    ("changes", "target", "parts"),
    [
        ({}, "d", None),  # both see it
        ({"shift": "texture"}, "d", ("environments",)),
        ({"shift": ["tint", "texture"]}, "d", None),
        (two_shifts({"a": 0, "b": 0, "c": 1}, {"a": 0, "b": 0.1, "c": 1}), "c", ("interventions", "environments")),
        (two_shifts({"a": 1, "b": 0, "c": 0}, {"a": 0, "b": 0, "c": 1}), None, ()),
        ({"shift": "none"}, None, ()),
        ({"strength": {"a": 0.3, "b": 0.3, "c": 1}}, "c", ("interventions",)),
        ({"strength": {"a": 1, "b": 0.3, "c": 1}}, None, ()),  # no strength beyond all others
        ({"strength": {"a": 1, "b": 0.2, "c": 0}}, "a", None),
        ({"strength": {"a": 1, "b": 1, "c": 1}, "correlation": {"a": 0.1, "b": 0.9, "c": 0.8}}, "a", ()),
    ],
)
def test_what_must_be_found_follows_from_shift_and_strengths(
    changes: dict[str, Any], target: str | None, parts: tuple[str, ...] | None
) -> None:
    spec = DatasetSpec.model_validate(SPEC | changes)
    assert (spec.planted.target, spec.planted.parts) == (target, parts)
    assert (spec.must_be_found is None) == (parts is None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "PACS"}, "'of' is for planted sets, and 'PACS' is none: call it 'planted-PACS'"),
        ({"shift": None}, "the planted set 'planted' needs 'shift'"),
        ({"of": None, "name": "planted-x"}, "the planted set 'planted-x' needs 'of'"),
        ({"of": "PACS"}, "datasets.0.of: input should be 'emoji_styles', not 'PACS'."),
        ({"shift": "tnt"}, "datasets.0.shift.0: input should be 'dusk', 'tint', 'texture' or 'none', not 'tnt'."),
        ({"from": "nota"}, "datasets.0.from: unknown style 'nota': did you mean 'noto'? Valid: all, fluent,"),
        ({"from": ["noto", "noto"]}, "datasets.0.from: the style 'noto' is given twice."),
        ({"root": "/data"}, "the planted set 'planted' is built: leave root, layout, columns and table out."),
        ({"layout": "folder"}, "the planted set 'planted' is built: leave root, layout, columns and table out."),
        ({"strength": {"a": 0, "b": 1.2}}, "datasets.0.strength.tint.b: input should be less than or equal to 1"),
        ({"strength": {"a": 1}}, "datasets.0.strength: 1 environments; give 2 to 11 of them a strength."),
        ({"strength": {"a": 0, "../b": 1}}, "'../b' is no name of an environment: use letters, digits and '_'."),
        ({"shift": ["tint", "tint"]}, "datasets.0.shift: the shift 'tint' is given twice."),
        ({"strength": {"dusk": STRENGTH}}, "datasets.0.strength: of dusk; give it for tint."),
        (two_shifts(STRENGTH, {"a": 0, "b": 1}), "datasets.0.strength: the shifts have different environments"),
        ({"strength": {"a": 0, "b": {"c": 1}}}, "datasets.0.strength.a: input should be a valid dictionary"),
        ({"correlation": {"a": 0.9}}, "has the environments a, and strength has a, b, c, d; give both for the same"),
        ({"correlation": CORRELATION | {"d": -1}}, "datasets.0.correlation.d: input should be greater than or equal"),
        ({"seed": -1}, "datasets.0.seed: input should be greater than or equal to 0, not -1."),
        ({"shifts": "tint"}, "unknown key 'datasets.0.shifts': did you mean 'shift'?"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(IcmBenchError, match=re.escape(sentence)):
        parse_recipe(recipe(**changes))


def test_there_is_a_concept_of_every_class_in_up_to_eleven_environments() -> None:
    assert min(CLASS_COUNTS.values()) == MAX_ENVIRONMENTS


def test_several_planted_sets_need_names_of_their_own() -> None:
    with pytest.raises(IcmBenchError, match="the data set 'planted' is given twice"):
        parse_recipe(recipe() | {"datasets": [SPEC, SPEC | {"shift": "texture"}]})
    both = parse_recipe(recipe() | {"datasets": [SPEC, SPEC | {"name": "planted-texture", "shift": "texture"}]})
    assert [list(d.planted.shifts) for d in both.datasets] == [["tint"], ["texture"]]
