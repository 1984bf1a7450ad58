"""An encoder of your own in a sweep: `python docs/examples/own_encoder.py IMAGES STORE`

IMAGES is a folder ENVIRONMENT/CLASS/IMAGE, STORE one for embeddings and rows. Weights are random, numbers mean nothing.
"""

import sys

import torch

from benchmark import EncoderModel, run
from benchmark.recipe.loading import parse_recipe


class Blocks(EncoderModel):
    """Images by the colours of 8 x 8 blocks, texts by their letters."""

    size, mean, std, logit_scale = (32, 32), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 50.0

    def __init__(self, spec):
        torch.manual_seed(spec.seed)
        self.module = torch.nn.ModuleDict({"image": torch.nn.Linear(48, 16), "text": torch.nn.EmbeddingBag(256, 16)})

    def encode_images(self, images):
        return self.module["image"](torch.nn.functional.avg_pool2d(images, 8).flatten(1))

    def encode_texts(self, texts):
        return torch.cat([self.module["text"](torch.tensor([list(text.encode())])) for text in texts])


if __name__ == "__main__":
    images, store = sys.argv[1:]
    recipe = {
        "name": "own-encoder",
        "datasets": [{"name": "images", "root": images}],
        "backbones": [{"name": "own_encoder:Blocks", "pretrained": "random"}],
        "interventions": {"kinds": ["grayscale", "invert"]},
        "sweep": {"projections": ["pca", "icm"], "seeds": [0], "predictors": ["zero_shot", "linear_probe"]},
        "run": {"store": store},
    }
    print(run(parse_recipe(recipe)).text)
