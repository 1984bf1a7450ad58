"""The linear probe on images and their interventional views: interventions as data augmentation."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from benchmark.method.predictors.base import Problem
from benchmark.method.predictors.linear_probe import LinearProbe


class ProbeWithViews(LinearProbe, label="probe on images and views"):
    """The linear probe trained on every image and its V views, which together have the weight of one image.

        minimise over W, b :   sum_i 1 / (1 + V) sum_v cross-entropy(x_iv W + b, y_i)  +  q / (2 C) ||W||^2

    v = 0 is the image, and v = 1 ... V are its views, one for each kind in the intervention set, with equal weight. q
    is the mean squared length over images and views, so C is comparable to `linear_probe`. Without views, both probes
    are equal.

    A fit to n images of width D takes 28 (1 + V) n D bytes of memory: with 7 kinds, 69 GB for the 400,000 training
    images of DomainNet at width 768.

    Fields:
        C: inverse weights of the L2 penalty, as for `linear_probe`.
        penalty: `scaled` or `absolute`, as for `linear_probe`.
        max_iter: maximum number of solver steps at each rank and C.
    """

    uses_views: ClassVar[bool] = True

    def training_problem(self, problem: Problem) -> tuple[Problem, float]:
        """Return the problem with images and views as training images, and the weight 1 / (1 + V) of each."""
        copies = 1 + len(problem.views)
        train = np.concatenate([problem.train, *problem.views])
        labels, environments = (np.tile(numbers, copies) for numbers in (problem.labels, problem.environments))
        return replace(problem, train=train, views=(), labels=labels, environments=environments), 1 / copies
