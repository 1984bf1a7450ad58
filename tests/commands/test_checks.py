"""What a data set cannot do is said before anything is embedded."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmark.commands.preparing.checks import check_protocols
from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.sweep.fitting import Choice
from tests.commands.conftest import Command
from tests.conftest import TINY_CLIP
from tests.test_cli import write_recipe


def recipe(datasets: list[str], **sweep: Any) -> Recipe:
    return parse_recipe(
        {
            "name": "checks",
            "datasets": [{"name": name, "root": name} for name in datasets],
            "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
            "sweep": {"predictors": ["zero_shot"], "projections": ["identity"], "seeds": [0], **sweep},
        }
    )


def manifest(name: str, environment: list[int], groups: list[str] | None = None) -> Any:
    index = np.array(environment)
    return SimpleNamespace(
        name=name, groups=groups, classes=["cat", "dog"], environments=[f"e{i}" for i in np.unique(index)],
        environment_index=index, counts={f"e{i}": int((index == i).sum()) for i in np.unique(index)}, table=pa.table({"label": np.arange(len(index)) % 2}),
        reader=SimpleNamespace(labelled=True),
    )  # fmt: skip


def test_a_variant_with_fewer_images_than_folds_is_refused() -> None:
    shift = recipe(["ImageNet", "ImageNetV2"], protocols=["imagenet_shift"], folds=5)
    check_protocols(shift, manifest("ImageNetV2", [0] * 5))
    with pytest.raises(IcmBenchError, match=r"ImageNetV2 has 4 images, too few for 5 folds; set fewer sweep\.folds"):
        check_protocols(shift, manifest("ImageNetV2", [0] * 4))
    without = recipe(["ImageNet", "ImageNetV2"], protocols=["imagenet_shift"], folds=None)
    check_protocols(without, manifest("ImageNetV2", [0] * 4))


def test_an_environment_too_small_for_a_split_is_named_by_its_groups_where_it_has_some() -> None:
    """500 images of one burst in the second environment: more images would not help."""
    environment, groups = [0] * 600 + [1] * 500, [f"g{i % 30}" for i in range(600)] + ["g7"] * 500
    with pytest.raises(IcmBenchError, match=r"'e1' of toy has 500 images in 1 group, .* give more groups") as refused:
        check_protocols(recipe(["toy"], protocols=["in_domain"]), manifest("toy", environment, groups))
    assert "10 images" not in str(refused.value)
    with pytest.raises(IcmBenchError, match="'e1' of toy has 2 images, and the split of seed 0 leaves one side empty"):
        check_protocols(recipe(["toy"], protocols=["in_domain"]), manifest("toy", [0] * 12 + [1] * 2))


def test_a_fit_for_export_says_that_rows_of_folds_are_of_other_fits() -> None:
    choice = Choice(None, None, None, "none", seed=3)  # type: ignore[arg-type]
    assert choice.split_words(None) == "in-split (80 %) of trial seed 3"
    assert choice.split_words(5).endswith("; the recipe uses 5 folds, so none of its rows comes from this fit")


def test_environments_may_lack_classes_where_a_recipe_or_the_catalog_says_so(toy_root: Path) -> None:
    shutil.rmtree(toy_root / "env1" / "dog")
    found = read_manifest(DatasetSpec(name="toy", root=str(toy_root)))
    strict = recipe(["toy"], protocols=["held_out"])
    with pytest.raises(IcmBenchError, match="or set classes_differ: true"):
        check_protocols(strict, found)
    loose = strict.model_copy(update={"datasets": (strict.datasets[0].model_copy(update={"classes_differ": True}),)})
    check_protocols(loose, found)
    assert loose.hash() != strict.hash()
    assert "classes_differ" not in strict.datasets[0].model_dump()
    known = recipe(["iWildCam", "FMoW", "Camelyon17", "PACS"]).datasets
    assert [d.resolved.classes_differ for d in known] == [True, True, None, None]
    assert known[0].model_copy(update={"classes_differ": False}).resolved.classes_differ is False


@pytest.mark.usefixtures("local_ray")
def test_a_rank_above_the_width_of_one_backbone_is_refused_before_any_is_loaded(
    tmp_path: Path, toy_root: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbones = []
    for name, width in {"wide": 64, "narrow": 32, "widest": 128}.items():
        (tmp_path / name).mkdir()
        content = {"model_cfg": TINY_CLIP | {"embed_dim": width}, "preprocess_cfg": {}}
        (tmp_path / name / "open_clip_config.json").write_text(json.dumps(content))
        backbones.append({"name": name, "folder": str(tmp_path / name), "pretrained": "random", "engine": "torch"})
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))  # their facts are not cached
    loaded: list[Any] = []
    monkeypatch.setattr("benchmark.backbones.describe.answer", loaded.append)
    file = write_recipe(
        tmp_path, toy_root, backbones[0], backbones=backbones, sweep={"seeds": [0], "lambdas": [1], "ranks": [4, 64]}
    )
    for name in ("run", "plan", "embed"):
        said = command.refused(name, file)
        assert said.startswith("sweep.ranks: rank 64 is above the embedding width D = 32 of the backbone 'narrow")
    assert loaded == []
    assert not (tmp_path / "store" / "embeddings").exists()
