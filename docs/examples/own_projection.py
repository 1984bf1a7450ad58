"""A projection of your own in a sweep: `python docs/examples/own_projection.py IMAGES STORE`

IMAGES is a folder ENVIRONMENT/CLASS/IMAGE, STORE a folder for embeddings and rows. The weights of the encoder are
random, so that nothing is downloaded: the numbers show that it runs, and mean nothing.
"""

import sys
from typing import ClassVar

from benchmark import Projection, run
from benchmark.method.subspace import Basis, SourceMoments
from benchmark.method.subspace.basis import eigenbasis
from benchmark.recipe.loading import parse_recipe


class LeastMoved(Projection, label="Least moved"):
    """Directions by how little the interventions move them, whatever energy they have."""

    plain_at_full_rank: ClassVar[bool] = True
    uses_interventions: ClassVar[bool] = True

    def fit(self, sources: SourceMoments) -> Basis:
        """Return the eigenvectors of C_d, those of the smallest eigenvalues first."""
        return eigenbasis(sources.c_d(), largest_first=False)


if __name__ == "__main__":
    images, store = sys.argv[1:]
    recipe = {
        "name": "own-projection",
        "datasets": [{"name": "images", "root": images}],
        "backbones": [{"name": "ViT-S-32-alt", "pretrained": "random", "image_size": 32}],
        "interventions": {"kinds": ["grayscale", "invert"]},
        "sweep": {"projections": ["identity", "own_projection:LeastMoved"], "seeds": [0], "predictors": ["zero_shot"]},
        "run": {"store": store},
    }
    outcome = run(parse_recipe(recipe))
    print(f"RANDOM WEIGHTS\n{outcome.text}\n{outcome.rows} rows, {outcome.report}")
