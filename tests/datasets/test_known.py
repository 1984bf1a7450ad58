"""Sets of the catalog that lie otherwise than in folders of environments: small copies are read as their authors mean."""

import csv
import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.commands.planning.plan import plan
from benchmark.commands.preparing.checks import check_held_out
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.datasets.catalog import CATALOG, MAX_DIFFERENCES, class_subset, count_differences, is_variant
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.method.evaluation.metrics import METRICS
from benchmark.recipe.loading import parse_recipe
from tests.datasets.reading import read, refusal

RNG = np.random.default_rng(0)


def draw(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(file)


def write(file: Path, head: str, rows: Iterable[Iterable[Any]]) -> None:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([head.split(","), *rows])


@pytest.fixture
def iwildcam(tmp_path: Path) -> Path:
    """24 images of 3 species by 4 cameras, in bursts of 2, in the files of WILDS v2.0."""
    folder = tmp_path / "iwildcam_v2.0"
    rows = []
    for i in range(24):
        draw(folder / "train" / f"{i:03d}.jpg")
        location, split = i // 6, ("train", "id_test", "val", "test")[i // 6]
        rows.append([split, location, 400 + location, i // 2, f"burst-{i // 2}", i % 3, 10 * (i % 3), f"{i:03d}.jpg"])
    head = "split,location_remapped,location,sequence_remapped,seq_id,y,category_id,filename"
    write(folder / "metadata.csv", head, rows)
    write(folder / "categories.csv", "y,category_id,name", [[0, 0, "empty"], [1, 10, "puma concolor"], [2, 20, "lion"]])
    return tmp_path


def test_iwildcam(iwildcam: Path) -> None:
    found = read(iwildcam, "iWildCam")
    assert found.counts == dict.fromkeys("0123", 6)
    assert found.classes == found.prompt_names == ["empty", "lion", "puma concolor"]
    rows = {row["path"]: row for row in found.table.to_pylist()}
    assert [rows[f"train/00{i}.jpg"]["class_name"] for i in range(3)] == ["empty", "puma concolor", "lion"]
    assert [rows[f"train/00{i}.jpg"]["group"] for i in range(4)] == ["0", "0", "1", "1"]
    check_held_out(found)  # which the small copy allows
    (note,) = found.notes()
    assert "(of WILDS v2.0, in all, from the literature): 24 images instead of 203029; 4 is absent; 5 is absent" in note
    assert note.endswith("3 classes instead of 182.")
    assert f"{319 + 1 - MAX_DIFFERENCES} more of that kind" in note


def test_plan_shows_the_metric_of_its_authors_and_that_of_a_set_of_this_layout(iwildcam: Path) -> None:
    own = {
        "name": "traps", "root": str(iwildcam / "iwildcam_v2.0"), "layout": "table", "table": "metadata.csv",
        "columns": {"path": "train/{filename}", "class_name": "y", "environment": "location"},
        "metric": "macro_f1",
    }  # fmt: skip
    known = {"name": "iWildCam", "root": str(iwildcam), "columns": {"group": "filename"}}  # bursts are few
    sets = [known, own, {**own, "name": "plain", "metric": None}]
    backbone, sweep = {"name": "ViT-B-32", "pretrained": "random"}, {"folds": 3, "seeds": [0]}
    recipe = parse_recipe({"name": "wild", "datasets": sets, "backbones": [backbone], "sweep": sweep})
    lines = plan(recipe, Storage(str(iwildcam / "store")), known={}).text().splitlines()
    nothing, first, second, third, *_ = (line for line in lines if not line.startswith("note: "))
    assert nothing.startswith("not measured: start, ")
    assert first == "iWildCam: 24 images in 4 environments; its metric is macro-F1"
    assert second == "traps: 24 images in 4 environments; its metric is macro-F1"
    assert third == "plain: 24 images in 4 environments"
    assert [recipe.metric_of(one).name for one in recipe.datasets] == ["macro_f1", "macro_f1", "accuracy"]
    assert CATALOG["FMoW"].metric == "worst_environment"  # of the regions; Camelyon17 has accuracy
    assert all(facts.metric in METRICS.names() for facts in CATALOG.values())


def test_splits_say_which_lines_are_read_and_the_rest_need_not_lie_there(iwildcam: Path) -> None:
    (iwildcam / "iwildcam_v2.0" / "train" / "023.jpg").unlink()  # of the split `test`
    assert "names train/023.jpg, which does not lie below" in refusal(iwildcam, "iWildCam")
    found = read(iwildcam, "iWildCam", splits=["train", "val"])
    assert found.counts == {"0": 6, "2": 6}
    (note,) = found.notes()
    assert note.endswith("the catalog's counts do not apply.")
    assert read(iwildcam, "iWildCam", splits="train").counts == {"0": 6}
    said = refusal(iwildcam, "iWildCam", splits=["train", "vall"])
    assert "has 'vall' in its column of splits; did you mean 'val'" in said
    # Official parts as environments: `test` held out of a set of `train` and `test` is what WILDS trains and tests.
    (iwildcam / "iwildcam_v2.0" / "train" / "023.jpg").write_bytes(b"any")
    parts = read(iwildcam, "iWildCam", splits=["train", "test"], columns={"environment": "split"})
    assert parts.counts == {"test": 6, "train": 6}


def test_own_columns_stand_for_the_catalogs_and_its_names_go_with_its_columns(iwildcam: Path) -> None:
    found = read(iwildcam, "iWildCam", columns={"class_name": "category_id", "group": "seq_id"})
    assert found.classes == ["0", "10", "20"]
    assert set(found.groups or ()) == {f"burst-{i}" for i in range(12)}
    given = {"class_name": {"table": "categories.csv", "key": "category_id", "name": "name"}}
    named = read(iwildcam, "iWildCam", columns={"class_name": "category_id"}, lookup=given)
    assert named.classes == ["empty", "lion", "puma concolor"]


def test_what_a_second_table_does_not_say(iwildcam: Path) -> None:
    file = iwildcam / "iwildcam_v2.0" / "categories.csv"
    for head, rows, said in (
        ("y,name", [[0, "empty"], [1, "puma"], [2, ""]], f"metadata.csv is '2', which has no name in {file}"),
        ("y,name", [[0, "empty"], [1, "puma"], [1, "lion"]], f"{file} names '1' both 'puma' and 'lion'"),
        ("y,species", [[0, "empty"]], f"{file} has no column 'name', which lookup.class_name.name names"),
    ):
        write(file, head, rows)
        assert said in refusal(iwildcam, "iWildCam")
    file.unlink()
    assert f"{file} cannot be read (" in refusal(iwildcam, "iWildCam")


def test_fmow(tmp_path: Path) -> None:
    folder, rows = tmp_path / "fmow_v1.1", []
    countries = ["FRA", "JPN", "KEN", "XKX", "BRA", "ATA"]
    for i, (country, category) in enumerate(itertools.product(countries, ["airport_hangar", "zoo"] * 2)):
        split = ("train", "val", "test", "seq")[i % 4]
        if split != "seq":
            draw(folder / "images" / f"rgb_img_{i}.png")
        place = f"{split}/{category}/{category}_{i // 2}"
        rows.append([split, f"{place}/{i}_rgb.jpg", category, country, f"201{i % 3}-02-19T08:36:46Z"])
    write(folder / "rgb_metadata.csv", "split,img_path,category,country_code,timestamp", rows)
    regions = {"FRA": "Europe", "JPN": "Asia", "KEN": "Africa", "BRA": "Americas", "ATA": "", "AUS": "Oceania"}
    write(folder / "country_code_mapping.csv", "name,alpha-3,region", [["x", *item] for item in regions.items()])
    found = read(tmp_path, "FMoW")
    assert found.counts == {"Africa": 3, "Americas": 3, "Asia": 3, "Europe": 3, "Other": 6}
    assert found.classes == ["airport_hangar", "zoo"]
    groups = dict(zip(found.table["path"].to_pylist(), found.groups or (), strict=True))
    assert groups["images/rgb_img_8.png"] == "train/airport_hangar/airport_hangar_4"
    assert groups["images/rgb_img_9.png"] == "val/zoo/zoo_4"
    (note,) = found.notes()
    assert "18 images instead of 470086; Oceania is absent; 2 classes instead of 62." in note
    by_year = read(tmp_path, "FMoW", columns={"environment": "{timestamp:.4}"})
    assert by_year.environments == ["2010", "2011", "2012"]
    assert sum(by_year.counts.values()) == 18


def test_camelyon17(tmp_path: Path) -> None:
    folder, rows = tmp_path / "camelyon17_v1.0", []
    for i in range(20):
        patient, node, x, y = f"{i % 5:03d}", i % 2, 3328 + i, 21792
        name = f"patient_{patient}_node_{node}"
        draw(folder / "patches" / name / f"patch_{name}_x_{x}_y_{y}.png")
        rows.append([i, patient, node, x, y, i // 10, i % 10, i % 5, i % 2])
    write(folder / "metadata.csv", ",patient,node,x_coord,y_coord,tumor,slide,center,split", rows)
    found = read(tmp_path, "Camelyon17")
    assert found.counts == dict.fromkeys("01234", 4)
    assert found.classes == ["healthy tissue", "tumor tissue"]
    assert Counter(found.groups) == Counter({str(slide): 2 for slide in range(10)})
    first = found.table["path"][0].as_py()
    assert first == "patches/patient_000_node_0/patch_patient_000_node_0_x_3328_y_21792.png"
    (note,) = found.notes()
    assert note.endswith("20 images instead of 455954.")
    assert read(tmp_path, "Camelyon17", splits=[0]).counts == dict.fromkeys("01234", 2)  # in YAML 0 is a number
    assert set(read(tmp_path, "Camelyon17", columns={"group": "patient"}).groups or ()) == {f"00{i}" for i in range(5)}


def test_nico(tmp_path: Path) -> None:
    for environment, name in itertools.product(CATALOG["NICO++"].environments, ["bear", "hot air balloon"]):
        draw(tmp_path / "train" / environment / name / "1.jpg")
    found = read(tmp_path / "train", "NICO++")
    assert found.environments == ["autumn", "dim", "grass", "outdoor", "rock", "water"]
    assert found.classes == ["bear", "hot air balloon"]
    (note,) = found.notes()
    assert note.endswith("(in all, from the literature): 12 images instead of 88866; 2 classes instead of 60.")


def test_imagenet_c(tmp_path: Path) -> None:
    for corruption, severity, name in itertools.product(["fog", "shot_noise"], (1, 5), ["n01440764", "n02123045"]):
        for i in range(2):  # of the same file name in both classes
            draw(tmp_path / "imagenet-c" / corruption / str(severity) / name / f"ILSVRC2012_val_0000000{i}.JPEG")
    found = read(tmp_path, "ImageNet-C")
    assert found.counts == dict.fromkeys(["fog/1", "fog/5", "shot_noise/1", "shot_noise/5"], 4)
    assert found.classes == list(class_subset("ImageNet") or ())
    assert sorted(set(found.table["label"].to_pylist())) == [0, 281]
    assert found.prompt_names[281] == "tabby cat"
    pictures = [f"{name}/ILSVRC2012_val_0000000{i}" for name in ("n01440764", "n02123045") for i in range(2)]
    assert Counter(found.groups) == dict.fromkeys(pictures, 4)
    assert found.table["path"][0].as_py() == "fog/1/n01440764/ILSVRC2012_val_00000000.JPEG"
    batch = found.table.slice(0, 1).to_pydict()
    assert list(found.reader.read(batch)) == [(tmp_path / "imagenet-c" / batch["path"][0]).read_bytes()]
    differing, _ = found.notes()
    assert "gaussian_noise/1 has 0 images instead of 50000" in differing
    assert f"{75 - MAX_DIFFERENCES} more of that kind." in differing
    assert not is_variant("ImageNet-C")


def test_full_copies_differ_in_nothing() -> None:
    for name in ("iWildCam", "FMoW", "Camelyon17", "NICO++", "ImageNet-C", "ImageNet"):
        facts = CATALOG[name]
        first, *others = facts.environments
        counts = dict.fromkeys(others, 50000 if facts.is_counted else 1)
        counts[first] = facts.images - sum(counts.values())
        assert count_differences(facts, counts, facts.classes) == []
        more = counts | {"elsewhere": 2}
        assert "elsewhere is not in the catalog" in count_differences(facts, more, facts.classes)


@pytest.mark.parametrize("name", [name for name, facts in CATALOG.items() if facts.reads])
def test_what_the_catalog_says_of_a_layout_a_recipe_may_say_as_well(name: str) -> None:
    mine = DatasetSpec.model_validate({"name": "mine", **CATALOG[name].reads})
    assert mine.columns == DatasetSpec(name=name).resolved.columns
    other = DatasetSpec(name=name, layout="folder")
    assert other.resolved is other
    assert set(DatasetSpec(name=name).model_dump()) == set(DatasetSpec(name="PACS").model_dump())


def test_a_known_set_whose_environments_are_not_counted_needs_its_images_for_a_plan() -> None:
    with pytest.raises(IcmBenchError, match=r"'iWildCam' needs a 'root', .*; get it first \(the package wilds"):
        read_manifest(DatasetSpec(name="iWildCam"))
