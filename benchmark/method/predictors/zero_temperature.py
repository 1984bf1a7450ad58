"""ZERO: the vote of a tested image's most confident views (Farina et al., NeurIPS 2024, arXiv 2405.18330).

Softmax at zero temperature is one-hot, so the mean of the views' probabilities is a vote.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.special import log_softmax

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Predictor, Problem

BLOCK = 1024  # images processed at a time, with all views


class ZeroTemperature(Predictor, label="zero-temperature vote of views (ZERO)"):
    """Majority vote of the most confident among a test image's 1 + V views.

    Zero-shot probabilities of the image and of its view of each kind of the intervention set are ordered by entropy, at
    the backbone's logit scale. Each of the int(keep (1 + V)) views with the lowest entropy, at least one, votes for its
    most likely class. Ties are broken by the other views, the most confident first: the first whose class is among the
    tied ones decides; if none is, the tied class most likely for the first of these views.

    The authors draw 63 random crops and flips in addition to the image and keep 0.3 of them (0.1 in the first version
    of the paper); here there are as many views as kinds, 8 with the image by default, of which 2 are kept, so ties are
    common. In their code ties are broken in the order of the views.

    Uses views of each test image for its own prediction only. Votes are no logits.

    Fields:
        keep: share of the views that vote.

    Raises:
        ValueError: there are no views of the test images.
    """

    uses_training_images: ClassVar[bool] = False
    has_likelihood: ClassVar[bool] = False
    uses_views: ClassVar[bool] = True
    looks_at_target_images: ClassVar[bool] = True
    keep: float = Field(default=0.3, gt=0, le=1)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`: numbers of votes, plus one for the winner of a tie."""
        for rank in ranks:
            text = problem.logit_scale * unit(problem.text[:, :rank])
            of_rank = []
            for views in problem.with_views():
                votes = np.zeros((len(views[0]), len(text)))
                for first in range(0, len(votes), BLOCK):
                    block = slice(first, first + BLOCK)
                    logits = np.stack([unit(z[block, :rank]) @ text.T for z in views])
                    votes[block] = votes_of(logits, max(1, int(self.keep * len(views))))
                of_rank.append(votes)
            yield of_rank


def votes_of(logits: Array, kept: int) -> Array:
    """Return votes of the `kept` most confident views with ties broken, (m, classes), from (views, m, classes)."""
    log_p = log_softmax(logits, axis=2)
    order = (-(np.exp(log_p) * log_p).sum(axis=2)).argsort(axis=0, kind="stable")
    ballots = np.take_along_axis(logits.argmax(axis=2), order, axis=0)  # the most confident view first
    images = np.arange(logits.shape[1])
    votes = np.zeros(logits.shape[1:])
    for ballot in ballots[:kept]:
        votes[images, ballot] += 1
    tied = votes == votes.max(axis=1, keepdims=True)
    asked = slice(kept, None) if kept < len(logits) else slice(1)  # if all have voted: the most confident
    likeliest = np.where(tied, logits[order[asked][0], images], -np.inf).argmax(axis=1)
    open_ = tied.sum(axis=1) > 1
    winner, undecided = likeliest, open_.copy()
    for ballot in ballots[asked]:
        decides = undecided & tied[images, ballot]
        winner = np.where(decides, ballot, winner)
        undecided &= ~decides
    votes[images[open_], winner[open_]] += 1
    return votes
