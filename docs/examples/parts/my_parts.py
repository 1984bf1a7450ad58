"""The parts of docs/adding.md, the smallest of each kind; `icm-bench run recipe.yaml` beside it uses all of them."""

import numpy as np
import torch
from pydantic import Field
from scipy.spatial.distance import cdist

from benchmark import EncoderModel, Intervention, Metric, Predictor, Projection
from benchmark.datasets.readers.folder import FolderReader, entry_of
from benchmark.method.evaluation.protocols import Holdout, Protocol
from benchmark.method.subspace.basis import eigenbasis


class Darker(Intervention):
    """Divide the brightness of an image by a number that is drawn for it."""

    largest: int = Field(default=4, ge=2)

    def draw(self, rng):
        return (rng.uniform(1, self.largest),)

    def apply(self, images, drawn):
        return (images / drawn[:, :, None, None]).to(torch.uint8)


class LeastMoved(Projection, label="Least moved"):
    """Directions by how little the interventions move them, whatever energy they have."""

    uses_interventions = True
    plain_at_full_rank = True

    def fit(self, sources):
        return eigenbasis(sources.c_d(), largest_first=False)


class NearestMean(Predictor, label="Nearest mean"):
    """The class whose training images have the nearest mean."""

    learns_classes = True  # it needs no texts of the classes
    has_likelihood = False  # distances are no logits

    def scores(self, problem, ranks):
        for rank in ranks:
            train = problem.project(problem.train, rank)
            means = np.full((problem.n_classes, rank), np.inf)  # a class without images is infinitely far
            for c in np.unique(problem.labels):
                means[c] = train[problem.labels == c].mean(axis=0)
            yield [-cdist(problem.project(z, rank), means, "sqeuclidean") for z in problem.tests]


class ErrorRate(Metric):
    """The share of images that are classified wrongly."""

    title = "error rate"

    def compute(self, answers):
        return float((answers.predicted != answers.labels).mean())


class SingleSource(Protocol):
    """Fitted on the first environment, tested on each other one."""

    meaning = "fitted on the first environment, tested on each other one"

    def holdouts(self, environments, test_splits):
        return [Holdout(name, (0,), self.tests(test_splits, e)) for e, name in enumerate(environments) if e]


class Flat(FolderReader):
    """All images lie in one folder and are called ENVIRONMENT--CLASS--NAME.png."""

    def entries(self):
        for info in self.listed():
            environment, class_name, _ = info.name.split("--")
            yield entry_of(info, environment, class_name, None)  # the last is the group, where images belong together


class Blocks(EncoderModel):
    """Images by the colours of blocks of 8 x 8 pixels, through a random map. It has no texts."""

    size = (32, 32)

    def __init__(self, spec):
        torch.manual_seed(spec.seed)
        self.module = torch.nn.Linear(48, 16)

    def encode_images(self, images):
        return self.module(torch.nn.functional.avg_pool2d(images, 8).flatten(1))
