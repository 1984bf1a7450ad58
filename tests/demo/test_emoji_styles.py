"""The demo's data set: counts, layout and groups as promised, the same bytes on every drawing."""

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmark.datasets.catalog import CATALOG
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.demo.emoji import concepts, draw, draw_files, openmoji_svgs, pretraining_images, slug
from benchmark.demo.emoji_styles import CLASS_COUNTS, ENVIRONMENTS, NAME

pytestmark = pytest.mark.long("the demo's set cannot be drawn anew from its packages, or has other drawings")


@pytest.fixture(scope="module")
def images(demo_set: Path) -> list[tuple[str, str, str]]:
    """Environment, class and concept of all images."""
    return [(path.parts[-3], path.parts[-2], path.stem) for path in sorted(demo_set.glob("*/*/*.png"))]


def test_counts(images: list[tuple[str, str, str]]) -> None:
    counts = Counter((environment, class_name) for environment, class_name, _ in images)
    assert counts == {(e, c): n for e in ENVIRONMENTS for c, n in CLASS_COUNTS.items()}


def test_the_catalog_knows_the_fingerprint() -> None:
    manifest = read_manifest(DatasetSpec(name=NAME))
    assert manifest.fingerprint == CATALOG[NAME].fingerprint
    assert not any("catalog" in note for note in manifest.notes())


def test_every_environment_has_the_same_concepts(images: list[tuple[str, str, str]]) -> None:
    found = {e: {(c, name) for env, c, name in images if env == e} for e in ENVIRONMENTS}
    assert all(len(found["noto"]) == 284 and concepts == found["noto"] for concepts in found.values())


def test_groups_name_the_concept_of_every_image(demo_set: Path, images: list[tuple[str, str, str]]) -> None:
    with (demo_set / "groups.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["path"]: row["group"] for row in rows} == {f"{e}/{c}/{name}.png": name for e, c, name in images}
    assert len(rows) == len(images)


def test_no_two_images_of_a_class_and_environment_are_the_same(demo_set: Path) -> None:
    for folder in demo_set.glob("*/*"):
        contents = [image.read_bytes() for image in folder.glob("*.png")]
        assert len(set(contents)) == len(contents), folder


def test_images_are_square_and_stand_on_white(demo_set: Path) -> None:
    for environment in ENVIRONMENTS:
        image = Image.open(demo_set / environment / "mammal" / "dog.png").convert("RGBA")
        assert image.size == (224, 224)
        assert image.getpixel((0, 0)) == (255, 255, 255, 255)
        assert image.getchannel("A").getextrema() == (255, 255)


def test_drawing_gives_the_same_bytes_every_time() -> None:
    for drawing in pretraining_images()[::500]:
        assert drawing.png() == drawing.png()


def test_drawing_again_gives_what_is_cached(demo_set: Path) -> None:
    tiger = concepts()["tiger"]
    for environment, style in (("openmoji", "color"), ("line_art", "black")):
        svg = openmoji_svgs(style, [tiger])["tiger"]
        assert draw(svg) == (demo_set / environment / "mammal" / "tiger.png").read_bytes()


@pytest.mark.parametrize("cores", [1, 3])
def test_files_hold_what_is_drawn_whoever_draws(cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.demo.emoji.cores", lambda: cores)
    drawings = pretraining_images()[:20]
    documents = {tmp_path / "house" / str(i % 2) / f"{i}.png": drawing.svg for i, drawing in enumerate(drawings)}
    draw_files(documents, "drawing")
    assert len(documents) == 20
    for file, svg in documents.items():
        assert file.read_bytes() == draw(svg)


def test_pretraining_images_are_things_with_captions_and_no_alias_of_another_meaning() -> None:
    drawings = pretraining_images()
    assert len(drawings) == 2209
    tiger = next(drawing for drawing in drawings if drawing.concept.slug == "tiger")
    assert tiger.captions == ("tiger", "tiger, animal, big, cat, predator, zoo")
    assert Image.open(io.BytesIO(tiger.png(64))).size == (64, 64)
    assert "cricket" not in {drawing.concept.slug for drawing in drawings}


def test_slug() -> None:
    assert slug("woman’s hat") == slug("woman's hat") == "womans-hat"
    assert slug("piñata") == "pinata"
