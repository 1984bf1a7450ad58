"""The embedding stage on a real local Ray: right values, nothing twice, bad files named, store errors told."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.backbones import Backbone, geometry
from benchmark.embedding import store
from benchmark.embedding.pipeline import embed
from benchmark.embedding.texts import describe
from benchmark.errors import IcmBenchError
from benchmark.recipe import Recipe, parse_recipe
from benchmark.stages import prepare
from benchmark.storage import Storage

pytestmark = pytest.mark.usefixtures("local_ray")

RecipeFor = Callable[..., Recipe]


@pytest.fixture
def recipe_for(tiny_random: dict[str, Any]) -> RecipeFor:
    """Return a function that makes a recipe on a folder of images, with some keys changed."""
    return lambda root, **changes: _recipe(root, tiny_random, **changes)


def _recipe(root: Path, backbone: dict[str, Any], **changes: Any) -> Recipe:
    content = {
        "name": "toy",
        "datasets": [{"name": "toy", "root": str(root)}],
        "backbones": [backbone],
        "interventions": {"kinds": ["invert", "color_jitter"]},
        "run": {"batch_size": 4},
    }
    return parse_recipe({**content, **changes})


def embed_all(recipe: Recipe, storage: Storage):  # type: ignore[no-untyped-def]
    ((source, spec),) = prepare(recipe, storage, lambda _: None)
    return source, embed(storage, source.manifest, spec, source.facts, list(source.views), recipe.run)


def test_embeddings_are_those_of_a_plain_loop_and_a_second_run_embeds_nothing(
    toy_root: Path, tmp_path: Path, recipe_for: RecipeFor
) -> None:
    # More actors than cores, and a batch size that divides nothing: neither may show in the embeddings.
    storage, recipe = Storage(str(tmp_path / "store")), recipe_for(toy_root, run={"actors": 3, "batch_size": 5})
    source, report = embed_all(recipe, storage)
    assert (report.embedded, report.reused, report.rejected) == (36 * 3, 0, {})

    backbone = Backbone(recipe.backbones[0])
    resize_and_crop = geometry(backbone.preprocess)
    for view in source.views:
        ids = source.manifest.table["image_id"].to_pylist()
        stored = store.read(storage, view, ids)
        assert stored.dtype == np.float32
        for i in (0, 17, 35):
            image = Image.open(toy_root / source.manifest.table["path"][i].as_py()).convert("RGB")
            pixels = torch.from_numpy(np.array(resize_and_crop(image))).permute(2, 0, 1)[None]
            if view.intervention is not None:
                pixels = view.intervention.views(pixels, [ids[i]], recipe.interventions.seed)
            np.testing.assert_allclose(stored[i], backbone.encode_images(pixels)[0], atol=1e-5)

    _, again = embed_all(recipe, storage)
    assert (again.embedded, again.reused) == (0, 36 * 3)


def test_only_what_is_missing_is_computed(toy_root: Path, tmp_path: Path, recipe_for: RecipeFor) -> None:
    storage = Storage(str(tmp_path / "store"))
    source, _ = embed_all(recipe_for(toy_root), storage)
    _, wider = embed_all(recipe_for(toy_root, interventions={"kinds": ["invert", "color_jitter", "equalize"]}), storage)
    assert (wider.embedded, wider.reused) == (36, 36 * 3)  # only the new kind
    _, reseeded = embed_all(recipe_for(toy_root, interventions={"kinds": ["invert"], "seed": 1}), storage)
    assert (reseeded.embedded, reseeded.reused) == (36, 36)  # the original does not depend on the seed
    parts = [name for name in storage.files(source.views[1].directory, ".parquet") if "part-" in name]
    lost = storage.read_table(parts[0]).num_rows
    Path(storage.path(parts[0])).unlink()
    _, repaired = embed_all(recipe_for(toy_root), storage)
    assert repaired.embedded == lost


def test_schema_of_the_parts(toy_root: Path, tmp_path: Path, recipe_for: RecipeFor) -> None:
    storage = Storage(str(tmp_path / "store"))
    (plain,) = recipe_for(toy_root).backbones
    recipe = recipe_for(toy_root, backbones=[{**plain.model_dump(), "precision": "float16"}])
    source, _ = embed_all(recipe, storage)
    (name, *_) = storage.files(source.views[1].directory, ".parquet")
    table = storage.read_table(name)
    assert table.column_names == ["image_id", "environment", "class_name", "label", "view", "embedding"]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: halffloat>[16]"
    assert set(table["view"].to_pylist()) == {"invert"}


def test_one_bad_image_is_named_and_skipped_and_many_are_too_many(
    toy_root: Path, tmp_path: Path, recipe_for: RecipeFor
) -> None:
    storage = Storage(str(tmp_path / "store"))
    bad = toy_root / "env1" / "dog" / "2.png"
    bad.write_bytes(bad.read_bytes()[:60])
    lenient = recipe_for(toy_root, run={"max_bad_images": 0.05})
    source, report = embed_all(lenient, storage)
    assert list(report.rejected) == ["env1/dog/2.png"]
    assert report.embedded == 35 * 3
    with pytest.raises(
        IcmBenchError, match=r"1 of 36 images of toy cannot be read, more than 1%; the first is .*dog/2.png"
    ):
        embed_all(recipe_for(toy_root), storage)
    assert len(store.present(storage, source.views[0])) == 36  # the good ones are kept, the bad one is known


def test_the_same_bytes_twice_are_embedded_once(toy_root: Path, tmp_path: Path, recipe_for: RecipeFor) -> None:
    shutil.copy(toy_root / "env0" / "cat" / "0.png", toy_root / "env0" / "cat" / "copy.png")
    _, report = embed_all(recipe_for(toy_root), Storage(str(tmp_path / "store")))
    assert report.embedded == 36 * 3


def test_text_embeddings_are_unit_length_means_over_templates(tmp_path: Path, recipe_for: RecipeFor) -> None:
    storage, spec = Storage(str(tmp_path)), recipe_for(tmp_path).backbones[0]
    facts, (texts,) = describe(storage, spec, [["big_cat", "dog"]], ["a photo of a {}.", "a {}."])
    raw = Backbone(spec).encode_texts(["a photo of a big cat.", "a big cat.", "a photo of a dog.", "a dog."])
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    mean = unit.reshape(2, 2, -1).mean(axis=1)
    np.testing.assert_allclose(texts, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)
    assert facts.dim == 16
    assert facts.random_weights
