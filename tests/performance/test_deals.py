"""Embeddings of deals are those of a run, image by image."""

from pathlib import Path

import numpy as np
import pytest
import ray

from benchmark.commands.embed import embed_stage
from benchmark.commands.prepare import have_embeddings, prepared
from benchmark.recipe.loading import parse_recipe
from benchmark.store import embeddings as store
from benchmark.sweep.loading import load
from tests.performance.deals import Drawings


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_embeddings_of_deals_are_those_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    recipe = parse_recipe(
        {
            "name": "deals",
            "datasets": [{"name": "planted", "of": "emoji_styles", "from": "noto", "shift": "dusk", "seed": 3}],
            "backbones": [{"name": "MiniLiT", "image_size": 160}],
            "interventions": {"kinds": ["color_jitter"]},  # drawn for each image
            "run": {"store": str(tmp_path)},
        }
    )
    images = Drawings(recipe).deal("planted", recipe.datasets[0].planted, held_out="d")
    with prepared(recipe) as run:
        embed_stage(run, 0.0)
        have_embeddings(run, run.subjects)
        [subject] = run.subjects
        data, index = ray.get(load.remote(run.storage, subject, ()))
    np.testing.assert_array_equal(data.environment, images.subject.manifest.environment_index)
    np.testing.assert_array_equal(data.label, images.subject.manifest.table["label"].to_numpy())
    np.testing.assert_allclose(images.text, data.text, atol=1e-5)
    np.testing.assert_allclose(images.z[:, 0], data.z, atol=2e-4)
    views = store.read(run.storage, subject.views[1], index.ids, index.chunks)
    sources = data.environment != data.environments.index("d")
    np.testing.assert_allclose(images.z[sources, 1], views[sources], atol=2e-4)
