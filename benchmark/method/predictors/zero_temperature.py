"""ZERO: a vote of the most confident views of a test image (Farina et al., NeurIPS 2024, arXiv 2405.18330).

Softmax at temperature zero is one-hot, so averaging the probabilities of views is a vote.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.special import log_softmax

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Predictor, Problem

BLOCK = 1024  # images per block; all their views are processed at once


class ZeroTemperature(Predictor, label="zero-temperature vote of views (ZERO)"):
    """Majority vote of the most confident among a test image's 1 + V views.

    The 1 + V views are the image itself and one view for each of the V kinds in the intervention set. They are ordered
    by the entropy of their zero-shot probabilities at the backbone's logit scale. Each of the int(keep (1 + V)) views
    with the lowest entropy, at least one, votes for its most likely class. The other views break ties: of those whose
    most likely class is tied, the most confident view decides. If there is no such view, the tied class that the most
    confident of the other views finds likeliest wins.

    The authors add 63 random crops and flips to the image and keep a share of 0.3 (0.1 in the first version of the
    paper). Here the default has 8 views including the image, of which 2 vote, so ties are common. In the authors' code
    ties are broken in the order of the views.

    Views of a test image are used for its own prediction only. Votes are not logits.

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
        """See `Predictor.scores`. A score is a number of votes; the winner of a tie gets one more."""
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
    """Return the number of votes for each class, shape (m, classes), when the `kept` most confident views vote.

    The winner of a tie gets one more vote. `logits` has shape (views, m, classes).
    """
    log_p = log_softmax(logits, axis=2)
    order = (-(np.exp(log_p) * log_p).sum(axis=2)).argsort(axis=0, kind="stable")
    ballots = np.take_along_axis(logits.argmax(axis=2), order, axis=0)  # the most confident view first
    images = np.arange(logits.shape[1])
    votes = np.zeros(logits.shape[1:])
    for ballot in ballots[:kept]:
        votes[images, ballot] += 1
    tied = votes == votes.max(axis=1, keepdims=True)
    asked = slice(kept, None) if kept < len(logits) else slice(1)  # the views that break ties
    likeliest = np.where(tied, logits[order[asked][0], images], -np.inf).argmax(axis=1)
    open_ = tied.sum(axis=1) > 1
    winner, undecided = likeliest, open_.copy()
    for ballot in ballots[asked]:
        decides = undecided & tied[images, ballot]
        winner = np.where(decides, ballot, winner)
        undecided &= ~decides
    votes[images[open_], winner[open_]] += 1
    return votes
