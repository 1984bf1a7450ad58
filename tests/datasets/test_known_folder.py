"""A data set of the catalog is read from its own folder or not at all: what lies elsewhere is named, with the folder."""

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.catalog import CATALOG
from benchmark.datasets.manifest import dataset_reader, read_manifest
from benchmark.datasets.spec import DatasetSpec
from tests.datasets.reading import read, refusal

FIVE = {"PACS": "PACS", "VLCS": "VLCS", "OfficeHome": "office_home", "TerraIncognita": "terra_incognita",
        "DomainNet": "domain_net"}  # fmt: skip
CLASSES = ("bird", "dog")
IMAGES = 5  # of each class and environment, as many as a split needs


def draw(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    for i in range(IMAGES):
        pixels = np.random.default_rng([seed, i]).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The five sets of DomainBed with all environments and two classes of tiny images."""
    data, seed = tmp_path_factory.mktemp("five"), 0
    for name, folder in FIVE.items():
        for environment, class_name in product(CATALOG[name].environments, CLASSES):
            draw(data / folder / environment / class_name, seed := seed + 1)
    return data


@pytest.fixture
def data(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "data"))


Plan = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plan:
    """A function that plans a recipe of known sets with `--data`; it returns exit code, output and errors."""

    def planned(*sets: str) -> tuple[int, str, str]:
        content = {
            "name": "five",
            "datasets": list(sets or FIVE),
            "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
            "sweep": {"seeds": [0]},
        }
        (tmp_path / "recipe.yaml").write_text(json.dumps(content))
        code = main(["plan", str(tmp_path / "recipe.yaml"), "--data", str(data), "--store", str(tmp_path / "store")])
        said = capsys.readouterr()
        return code, said.out, said.err

    return planned


def swap(data: Path) -> None:
    (data / "PACS").rename(data / "other")
    (data / "VLCS").rename(data / "PACS")
    (data / "other").rename(data / "VLCS")


def into(data: Path, inner: str, *outer: str) -> None:
    """Move the content of a folder into a folder inside it, or into several as copies."""
    moved = data.parent / "moved"
    (data / inner).rename(moved)
    for name in outer:
        shutil.copytree(moved, data / inner / name)
    shutil.rmtree(moved)


def emptied(*folders: str) -> Callable[[Path], None]:
    def empty(data: Path) -> None:
        for folder in folders:
            shutil.rmtree(data / folder)
            (data / folder).mkdir()

    return empty


def dangling(folder: str) -> Callable[[Path], None]:
    def link(data: Path) -> None:
        shutil.rmtree(data / folder)
        (data / folder).symlink_to(data / "unmounted")

    return link


def short_and_misnamed(data: Path) -> None:
    shutil.rmtree(data / "office_home" / "Art")
    (data / "office_home").rename(data / "OfficeHome")


def archive(suffix: str, inside: str = "", of: str = "PACS") -> Callable[[Path], None]:
    def packed(data: Path) -> None:
        form = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar"}[suffix]
        file = shutil.make_archive(str(data.parent / of), form, data, of)
        shutil.rmtree(data / of)
        (data / inside).mkdir(exist_ok=True)
        shutil.move(file, data / inside)

    return packed


def another_set(data: Path) -> None:
    shutil.rmtree(data / "PACS")
    shutil.copytree(data / "domain_net", data / "PACS")


# Mistake -> (how it is made, set of which `plan` complains, folder that it expects, further words).
MISTAKES: dict[str, tuple[Callable[[Path], Any], str, str, str]] = {
    "missing": (lambda d: shutil.rmtree(d / "VLCS"), "VLCS", "VLCS", "put it there (DomainBed's download script"),
    "misnamed by case": (lambda d: (d / "PACS").rename(d / "pacs"), "PACS", "PACS", "it lies in {}/pacs: set its root"),
    "misnamed by a blank": (
        lambda d: (d / "domain_net").rename(d / "domain net"), "DomainNet", "domain_net", "it lies in {}/domain net: set"
    ),
    "misnamed by an underscore": (
        lambda d: (d / "office_home").rename(d / "OfficeHome"), "OfficeHome", "office_home", "it lies in {}/OfficeHome: set"
    ),
    "misnamed, and without an environment": (
        short_and_misnamed, "OfficeHome", "office_home", "is it {}/OfficeHome?"
    ),
    "a copy beside": (lambda d: (d / "PACS").rename(d / "PACS_copy"), "PACS", "PACS", "it lies in {}/PACS_copy: set"),
    "nested": (lambda d: into(d, "PACS", "PACS"), "PACS", "PACS", "it lies in {}/PACS/PACS: set its root to that"),
    "a class short": (
        lambda d: shutil.rmtree(d / "PACS" / "photo" / "dog"),
        "PACS", "PACS/photo/dog", "lacks images of the class 'dog'",
    ),
    "an environment short": (
        lambda d: shutil.rmtree(d / "PACS" / "photo"), "PACS", "PACS/photo", "a name of your own: {{name: my-PACS, root: {}"
    ),
    "an environment misnamed": (
        lambda d: (d / "office_home" / "Real World").rename(d / "office_home" / "Real_World"),
        "OfficeHome", "office_home/Real World", "(is it 'Real_World'?)",
    ),
    "an empty folder": (emptied("PACS"), "PACS", "PACS", "but nothing; put it there (DomainBed's"),
    "an empty environment": (emptied("PACS/photo"), "PACS", "PACS/photo", "my-PACS"),
    "two swapped": (swap, "PACS", "PACS", "it lies in {}/VLCS: set its root to that"),
    "a dangling link": (dangling("PACS"), "PACS", "PACS", "{}/PACS is a broken link"),
    "a dangling link of an environment": (dangling("PACS/photo"), "PACS", "PACS/photo", "is a broken link"),
    "a zip archive": (archive(".zip"), "PACS", "PACS", "unpack {}/PACS.zip there"),
    "a compressed archive": (archive(".tar.gz"), "PACS", "PACS", "unpack {}/PACS.tar.gz there"),
    "a tar archive": (archive(".tar"), "PACS", "PACS", "unpack {}/PACS.tar there"),
    "an archive in the folder": (archive(".tar.gz", "PACS"), "PACS", "PACS", "unpack {}/PACS/PACS.tar.gz there"),
    "split folders": (lambda d: into(d, "PACS", "train", "val"), "PACS", "PACS", "it lies in {}/PACS/train: set its root"),
    "a folder kfold": (lambda d: into(d, "PACS", "kfold"), "PACS", "PACS", "it lies in {}/PACS/kfold: set its root"),
    "one level too high": (lambda d: into(d, "", "domainbed"), "PACS", "PACS", "it lies in {}/domainbed: set its root"),
    "another set": (another_set, "PACS", "PACS", "art_painting, cartoon, photo of PACS, expected in {}/PACS/art_painting (these are DomainNet's)"),
}  # fmt: skip


def test_five_sets_are_planned(plan: Plan) -> None:
    code, out, _ = plan()
    assert code == 0
    for name in FIVE:
        environments = len(CATALOG[name].environments)
        assert f"{name}: {environments * len(CLASSES) * IMAGES} images in {environments} environments" in out


@pytest.mark.parametrize(("make", "name", "expected", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_the_folder_that_is_expected(
    make: Callable[[Path], Any], name: str, expected: str, words: str, plan: Plan, data: Path
) -> None:
    make(data)
    code, out, said = plan()
    *_, sentence = said.splitlines()
    assert (code, out) == (2, ""), sentence
    assert name in sentence
    assert f"{data}/{expected}" in sentence
    assert words.format(data) in sentence
    assert "remove" not in sentence
    assert "delete" not in sentence


def test_a_copy_or_a_further_folder_beside_a_set_is_no_part_of_it(plan: Plan, data: Path) -> None:
    shutil.copytree(data / "PACS", data / "PACS_copy")
    code, out, _ = plan("PACS", "VLCS")
    assert code == 0
    assert f"PACS: {4 * len(CLASSES) * IMAGES} images in 4 environments" in out


def test_the_folder_of_a_set_may_have_any_name_where_it_is_the_root(data: Path) -> None:
    expected = read(data, "PACS").fingerprint
    (data / "PACS").rename(data / "photos and drawings")
    assert read(data / "photos and drawings", "PACS").fingerprint == expected
    assert f"{data / 'photos and drawings' / 'photo'} is one environment of it: set its root to the folder above" in (
        refusal(data / "photos and drawings" / "photo", "PACS")
    )


def test_what_is_short_of_an_environment_is_read_under_another_name(data: Path) -> None:
    shutil.rmtree(data / "PACS" / "photo")
    assert "the environment photo of PACS" in refusal(data, "PACS")
    assert read(data / "PACS", "my-PACS").environments == ["art_painting", "cartoon", "sketch"]


def test_an_environment_without_labels_is_there(data: Path) -> None:
    for image in (data / "PACS" / "photo" / "dog").iterdir():
        image.rename(data / "PACS" / "photo" / image.name)
    shutil.rmtree(data / "PACS" / "photo" / "bird")
    (data / "PACS" / "photo" / "dog").rmdir()
    spec = DatasetSpec.model_validate({"name": "PACS", "root": str(data), "labels": {"photo": "none"}})
    assert read_manifest(spec).environments == ["art_painting", "cartoon", "sketch"]
    assert spec.unlabelled
    assert read_manifest(spec.unlabelled).counts == {"photo": IMAGES}


WORDNET = ("n01443537", "n01484850")  # goldfish and great white shark, which all variants have


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    """ImageNet and ImageNet-R with two classes; ImageNet's images are in its folder `val`."""
    for seed, (folder, class_name) in enumerate(product(("imagenet/val", "imagenet-r"), WORDNET)):
        draw(tmp_path / "data" / folder / class_name, seed)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: shutil.rmtree(d / "imagenet-r"), "has no such folder, but imagenet; put it there (the authors'"),
        (lambda d: (d / "imagenet-r").rename(d / "ImageNet_R"), "it lies in {}/ImageNet_R: set its root"),
        (lambda d: into(d, "imagenet-r", "imagenet-r"), "it lies in {}/imagenet-r/imagenet-r: set its root"),
        (lambda d: into(d, "", "data"), "it lies in {}/data: set its root"),
        (lambda d: into(d, "imagenet-r", "test"), "it lies in {}/imagenet-r/test: set its root"),
        (
            lambda d: (d / "imagenet-r" / WORDNET[0]).rename(d / "imagenet-r" / "goldfish"),
            "'goldfish' in {}/imagenet-r is",
        ),
        (archive(".tar", of="imagenet-r"), "unpack {}/imagenet-r.tar there"),
    ],
)
def test_a_variant_of_imagenet_is_read_from_its_own_folder(
    make: Callable[[Path], Any], words: str, variants: Path
) -> None:
    assert read(variants, "ImageNet-R").counts == {"imagenet-r": 2 * IMAGES}
    assert read(variants / "imagenet-r", "ImageNet-R").counts == {"imagenet-r": 2 * IMAGES}
    make(variants)
    said = refusal(variants, "ImageNet-R")
    assert words.format(variants) in said
    assert f"{variants}/imagenet-r" in said
    assert "remove" not in said


def test_shards_of_another_variant_are_not_read(variants: Path) -> None:
    """Shards tell no environment, and ImageNetV2 has the classes of ImageNet."""
    shutil.rmtree(variants / "imagenet")
    (variants / "imagenet" / "data").mkdir(parents=True)
    (variants / "imagenet" / "data" / "0.parquet").touch()
    assert f"ImageNetV2 is read from {variants}/imagenetv2" in refusal(variants, "ImageNetV2")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iWildCam", "iwildcam_v2.0"), ("FMoW", "fmow_v1.1"), ("Camelyon17", "camelyon17_v1.0"), ("NICO++", "NICO++"),
        ("ImageNet-C", "imagenet-c"),
    ],
)  # fmt: skip
def test_other_sets_are_not_read_from_the_folder_of_sets(name: str, expected: str, drawn: Path) -> None:
    said = refusal(drawn, name)
    assert f"{name} is read from {drawn}/{expected}, and {drawn} has no such folder, but PACS, VLCS, domain_net" in said


@pytest.mark.parametrize(("name", "inner"), [("NICO++", "train"), ("ImageNet-C", "all"), ("iWildCam", "v2")])
def test_other_sets_that_lie_too_deep_are_named(name: str, inner: str, tmp_path: Path) -> None:
    facts = CATALOG[name]
    place = tmp_path / facts.folder / inner
    for entry in facts.entries or [facts.reads["table"]]:
        (place / entry).mkdir(parents=True)
    assert f"it lies in {place}: set its root to that" in refusal(tmp_path, name)


def test_the_reader_that_the_doctor_opens_is_of_the_same_folder(data: Path) -> None:
    shutil.rmtree(data / "VLCS")
    with pytest.raises(IcmBenchError, match="VLCS is read from"):
        dataset_reader(DatasetSpec(name="VLCS", root=str(data)))
