"""The manifest: order, identity, groups, and what is refused."""

import hashlib
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from benchmark.commands.preparing.checks import check_held_out
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.catalog import CATALOG, count_differences
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from tests.datasets.reading import read, refusal


def test_order_is_that_of_imagefolder_in_every_environment(toy_root: Path) -> None:
    (toy_root / "env0" / "cat" / "nested").mkdir()
    shutil.copy(toy_root / "env0" / "cat" / "3.png", toy_root / "env0" / "cat" / "nested" / "0.png")
    shutil.copy(toy_root / "env0" / "cat" / "3.png", toy_root / "env0" / "cat" / "a.PNG")
    manifest = read(toy_root)
    paths = manifest.table["path"].to_pylist()
    for environment in manifest.environments:
        reference = ImageFolder(toy_root / environment)
        mine = [p for p in paths if p.startswith(f"{environment}/")]
        assert mine == [Path(p).relative_to(toy_root).as_posix() for p, _ in reference.samples]
        here = manifest.environment_index == manifest.environments.index(environment)
        assert manifest.table["label"].to_numpy()[here].tolist() == [label for _, label in reference.samples]


def test_a_part_has_as_many_images_of_each_class_and_environment_as_possible(toy_root: Path) -> None:
    manifest = read(toy_root)
    whole, part = manifest.table.to_pylist(), manifest.part(14).table.to_pylist()
    assert [row for row in whole if row in part] == part  # in order
    cells = Counter((row["environment"], row["class_name"]) for row in whole)
    for (environment, name), count in Counter((row["environment"], row["class_name"]) for row in part).items():
        mine, every = (
            [r for r in rows if (r["environment"], r["class_name"]) == (environment, name)] for rows in (part, whole)
        )
        assert mine == every[:count]
        assert count in (14 // len(cells), 14 // len(cells) + 1)
    assert len(part) == 14
    assert manifest.part(10**6).table.equals(manifest.table)


def test_environments_are_sorted_as_strings(toy_root: Path) -> None:
    (toy_root / "env0").rename(toy_root / "location_100")
    (toy_root / "env1").rename(toy_root / "location_38")
    assert read(toy_root).environments == ["env2", "location_100", "location_38"]


def test_identity_is_bytes_environment_and_class(toy_root: Path) -> None:
    assert read(toy_root).notes() == []
    source = toy_root / "env0" / "cat" / "0.png"
    shutil.copy(source, toy_root / "env1" / "cat" / "copy.png")
    shutil.copy(source, toy_root / "env0" / "cat" / "copy.png")
    manifest = read(toy_root)
    ids = dict(zip(manifest.table["path"].to_pylist(), manifest.table["image_id"].to_pylist(), strict=True))
    expected = hashlib.sha256(source.read_bytes() + b"\0env0\0cat").hexdigest()
    assert ids["env0/cat/0.png"] == ids["env0/cat/copy.png"] == expected
    assert ids["env1/cat/copy.png"] != expected
    inside, across = manifest.notes()
    assert "1 images repeat the bytes of another one of the same environment and class" in inside
    assert inside.endswith("the first is env0/cat/copy.png, which equals env0/cat/0.png.")
    assert "1 images have the same bytes as one of another environment or class" in across
    assert across.endswith("the first is env1/cat/copy.png, which equals env0/cat/0.png.")


def test_empty_folders_count(toy_root: Path) -> None:
    (toy_root / "env9" / "cat").mkdir(parents=True)
    with pytest.raises(IcmBenchError, match="env9 lacks images of the class 'cat'"):
        check_held_out(read(toy_root))
    shutil.rmtree(toy_root / "env9")
    (toy_root / "env0" / "yak").mkdir()
    with pytest.raises(IcmBenchError, match="env0 lacks images of the class 'yak'"):
        check_held_out(read(toy_root))


def test_fingerprint_follows_content_and_place_but_not_the_root(toy_root: Path, tmp_path: Path) -> None:
    before = read(toy_root).fingerprint
    moved = tmp_path / "moved"
    shutil.copytree(toy_root, moved)
    assert read(moved).fingerprint == before
    (moved / "env0" / "cat" / "0.png").rename(moved / "env0" / "cat" / "00.png")
    assert read(moved).fingerprint != before


def test_root_may_hold_the_folder_or_be_it(toy_root: Path) -> None:
    assert read(toy_root.parent).fingerprint == read(toy_root).fingerprint


def test_groups_come_from_a_file(toy_root: Path) -> None:
    paths = read(toy_root).table["path"].to_pylist()
    lines = "".join(f"{p},{Path(p).stem}\n" for p in paths)
    (toy_root / "groups.csv").write_text("path,group\n" + lines)
    assert read(toy_root).groups == [Path(p).stem for p in paths]
    (toy_root / "groups.csv").write_text("path,group\n" + lines.split("\n", 1)[1])
    assert f"groups.csv names no group for {paths[0]}" in refusal(toy_root)


def test_pacs_sample_differs_from_the_catalog_by_its_counts(pacs_sample: Path) -> None:
    manifest = read(pacs_sample, "PACS")
    assert manifest.counts == dict.fromkeys(("art_painting", "cartoon", "photo", "sketch"), 175)
    (note,) = manifest.notes()
    assert "sketch has 175 images instead of 3929" in note


@pytest.mark.parametrize(
    ("removed", "sentence"),
    [
        ([""], "does not exist"),
        (["env1", "env2"], "has one environment only (env0)"),
        (["env2/dog"], "env2 lacks images of the class 'dog'"),
        (["env0/cat", "env0/dog", "env1", "env2"], "holds no images"),
        (["env0/dog", "env1/dog", "env2/dog"], "has one class only (cat)"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(toy_root: Path, removed: list[str], sentence: str) -> None:
    for name in removed:
        shutil.rmtree(toy_root / name)
    with pytest.raises(IcmBenchError, match=re.escape(sentence)) as caught:
        check_held_out(read(toy_root))
    assert str(toy_root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_known_set_without_root_says_how_to_get_it() -> None:
    with pytest.raises(IcmBenchError, match=r"'VLCS' needs a 'root'.*DomainBed's download script"):
        read_manifest(DatasetSpec(name="VLCS"))
    with pytest.raises(IcmBenchError, match="did you mean 'TerraIncognita'"):
        read_manifest(DatasetSpec(name="TerraIncognito"))


def test_catalog_totals_are_the_published_ones() -> None:
    published = {
        "PACS": 9991, "VLCS": 10729, "OfficeHome": 15588, "TerraIncognita": 24330, "DomainNet": 586575,
        "emoji_styles": 1704, "emoji_styles_8": 1544, "icons": 2228, "ImageNet": 50000, "ImageNetV2": 10000,
        "ImageNet-R": 30000, "ImageNet-A": 7500, "ImageNet-Sketch": 50889,
    }  # fmt: skip
    assert {name: CATALOG[name].images for name in published} == published
    assert all(f.licence and f.citation and f.obtain for f in CATALOG.values())


def test_images_that_stand_in_two_environments_are_counted_once_each(toy_root: Path) -> None:
    assert read(toy_root).shared_images == 0
    for source, target in (
        ("env0/cat/0.png", "env0/cat/again.png"),  # in one environment and class: no sharing
        ("env0/cat/1.png", "env0/dog/other.png"),  # in one environment
        ("env0/cat/2.png", "env1/cat/a.png"),
        ("env0/cat/2.png", "env2/dog/b.png"),  # the same image once more
        ("env1/dog/3.png", "env2/dog/c.png"),
    ):
        shutil.copy(toy_root / source, toy_root / target)
    environments: dict[bytes, set[str]] = {}
    for file in toy_root.glob("*/*/*.png"):
        environments.setdefault(file.read_bytes(), set()).add(file.parent.parent.name)
    assert read(toy_root).shared_images == sum(len(names) > 1 for names in environments.values()) == 2


def test_another_copy_with_the_right_counts_is_noticed_by_its_fingerprint(
    toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = read(toy_root)
    facts = replace(CATALOG["PACS"], name="toy", environments=manifest.counts, classes=2)
    for fingerprint, notes in ((None, 0), (manifest.fingerprint, 0), ("0" * 64, 1)):
        copies = {"toy": replace(facts, fingerprint=fingerprint)}
        monkeypatch.setattr("benchmark.datasets.manifest.CATALOG", copies)
        assert len(manifest.notes()) == notes
    assert "has the catalog's counts, but other images than the reference copy" in manifest.notes()[0]


def test_a_file_name_that_cannot_be_printed_is_refused(toy_root: Path) -> None:
    (toy_root / "env0" / "cat" / "0.png").rename(toy_root / "env0" / "cat" / "a\nb.png")
    assert rf"The file name 'env0/cat/a\nb.png' in {toy_root} is not printable" in refusal(toy_root)
    (toy_root / "env0" / "cat" / "a\nb.png").rename(toy_root / "env0" / "cat" / "\udcff.png")  # no UTF-8
    assert r"env0/cat/\xff.png' is not UTF-8" in refusal(toy_root)


def test_links_are_followed(toy_root: Path, tmp_path: Path) -> None:
    before = read(toy_root).fingerprint
    (toy_root / "env0" / "cat").rename(tmp_path / "elsewhere")
    (toy_root / "env0" / "cat").symlink_to(tmp_path / "elsewhere")
    (toy_root / "env1" / "cat" / "0.png").rename(tmp_path / "image")
    (toy_root / "env1" / "cat" / "0.png").symlink_to(tmp_path / "image")
    assert read(toy_root).fingerprint == before


PRUNED_NOT = {
    "clipart": 48837, "infograph": 53201, "painting": 75759, "quickdraw": 172500, "real": 175327, "sketch": 70386,
}  # fmt: skip
OTHER_TERRA = {"location_38": 9736, "location_43": 3970, "location_46": 5883, "location_100": 5199}


@pytest.mark.parametrize(
    ("name", "counts", "classes", "said"),
    [
        ("DomainNet", PRUNED_NOT, 345, "this is the unpruned copy, with duplicates"),
        ("TerraIncognita", OTHER_TERRA, 10, "this is the 24,788-image list that also circulates"),
        ("ImageNet", {"imagenet": 1281167}, 1000, "this is the training images"),
    ],
)
def test_copies_that_also_circulate_are_named_as_such(
    name: str, counts: dict[str, int], classes: int, said: str
) -> None:
    assert count_differences(CATALOG[name], counts, classes) == [said]
