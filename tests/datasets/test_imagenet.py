"""ImageNet's variants: the right subset of classes, WordNet ids however a copy writes them, and words for prompts."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from open_clip import OPENAI_IMAGENET_TEMPLATES
from PIL import Image

from benchmark.commands.preparing.checks import check_held_out
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.catalog import CATALOG, class_subset, human_names
from tests.datasets.reading import read, with_features

VARIANTS = ["ImageNet", "ImageNetV2", "ImageNet-R", "ImageNet-A", "ImageNet-Sketch"]


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def make(folder: Path, classes: list[str]) -> None:
    for i, class_name in enumerate(classes):
        (folder / class_name).mkdir(parents=True)
        (folder / class_name / "x.png").write_bytes(png(i))


@pytest.mark.parametrize("name", VARIANTS)
def test_subsets_have_the_published_size_and_lie_in_imagenet(name: str) -> None:
    subset = class_subset(name)
    assert subset is not None
    assert len(set(subset)) == len(subset) == CATALOG[name].classes
    assert list(subset) == sorted(subset)
    assert set(subset) <= set(class_subset("ImageNet") or ())


def test_classes_are_called_as_every_zero_shot_table_calls_them() -> None:
    # Facts that are not taken from the two lists that the code joins.
    known = {"n01440764": "tench", "n02123045": "tabby cat", "n02509815": "red panda", "n15075141": "toilet paper"}
    assert human_names(list(known)) == list(known.values())
    assert len(OPENAI_IMAGENET_TEMPLATES) == 80
    assert class_subset("PACS") is None
    assert "n02123045" not in (class_subset("ImageNet-A") or ())  # tabby is one of the 800 that ImageNet-A leaves out
    assert "n01443537" in (class_subset("ImageNet-R") or ())  # goldfish


@pytest.mark.parametrize("level", ["", "val", "train"])
def test_a_set_of_one_environment_is_read_with_its_whole_subset(tmp_path: Path, level: str) -> None:
    make(tmp_path / "imagenet" / level, ["n02123045", "n01440764"])
    manifest = read(tmp_path, "ImageNet")
    assert manifest.environments == ["imagenet"]
    assert manifest.table["path"].to_pylist() == ["n01440764/x.png", "n02123045/x.png"]
    assert len(manifest.classes) == len(manifest.prompt_names) == 1000
    labels = manifest.table["label"].to_pylist()
    assert labels == [0, 281]  # as every ImageNet classifier numbers tench and tabby
    assert [manifest.prompt_names[i] for i in labels] == ["tench", "tabby cat"]
    notes = " ".join(manifest.notes())
    assert "imagenet has 2 images instead of 50000" in notes
    assert "lacks images of 998 of its 1000 classes, n01443537 the first" in notes
    with pytest.raises(IcmBenchError, match=r"has one environment only \(imagenet\), add another"):
        check_held_out(manifest)


def test_a_folder_that_is_not_of_the_subset_is_named(tmp_path: Path) -> None:
    make(tmp_path / "imagenet-r", ["n01443537", "n01440764"])
    with pytest.raises(IcmBenchError, match=r"'n01440764' in .*imagenet-r is none of the 200 classes of ImageNet-R"):
        read(tmp_path, "ImageNet-R")


def test_numbers_are_positions_among_the_sorted_wordnet_ids(tmp_path: Path) -> None:
    make(tmp_path / "imagenetv2", ["0", "281", "999"])
    manifest = read(tmp_path, "ImageNetV2")
    assert manifest.table["class_name"].to_pylist() == ["n01440764", "n02123045", "n15075141"]
    assert manifest.table["label"].to_pylist() == [0, 281, 999]
    assert manifest.table["path"].to_pylist() == ["0/x.png", "281/x.png", "999/x.png"]


@pytest.mark.parametrize(
    ("label", "names", "expected"),
    [
        ([1, 0], None, ["n01443537", "n01484850"]),  # of ImageNet-R's 200
        ([980, 1], None, ["n01443537", "n09472597"]),  # of ImageNet's 1,000: there is no 980 among 200
        ([1, 0], ["great white shark", "goldfish"], ["n01443537", "n01484850"]),  # words are not unique
        ([1, 0], ["n01484850", "n01443537"], ["n01443537", "n01484850"]),
        (["n01484850", "n01443537"], None, ["n01443537", "n01484850"]),
    ],
)
def test_parquet_of_a_variant(tmp_path: Path, label: list[Any], names: list[str] | None, expected: list[str]) -> None:
    features = {"label": {"names": names, "_type": "ClassLabel"}} if names else {}
    table = pa.table({"image": [png(1), png(2)], "label": label})
    pq.write_table(with_features(table, features), tmp_path / "f.parquet")
    manifest = read(tmp_path, "ImageNet-R")
    assert manifest.table["class_name"].to_pylist() == expected
    assert manifest.environments == ["imagenet-r"]
