"""ZERO: the vote of a tested image's most confident views (Farina et al., NeurIPS 2024, arXiv 2405.18330).

Softmax with its temperature at zero is one-hot, so that the mean of the views' probabilities becomes a vote.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field
from scipy.special import log_softmax

from benchmark.method.arrays import Array, unit
from benchmark.method.predictors.base import Predictor, Problem

BLOCK = 1024  # images whose logits of all views are held at a time


class ZeroTemperature(Predictor, label="zero-temperature vote of views (ZERO)"):
    """The class that most of the confident ones among a tested image's 1 + V views are nearest to.

    Zero-shot probabilities of the image itself and of its view of each kind of the intervention set are ordered by
    their entropy, at the backbone's logit scale. Of the int(keep (1 + V)) with the lowest, at least one, each votes for
    its likeliest class. If classes tie, the views that were not kept are asked, the most confident first, and the
    first whose class is among those that tie decides; if none is, the likeliest of them for the first that was asked.

    The authors draw 63 random crops and flips beside the image and keep 0.3 of them (0.1 in the first version of their
    paper); here there are as many views as kinds, 8 in all by default, of which 2 are kept, so that ties are common. In
    their code, where views have an order of their own, ties are broken in that order.

    Sees views of the tested image, which no other image's answer depends on. Votes are no logits.

    Fields:
        keep: share of the views that vote.

    Raises:
        ValueError: there are no views of the tested images.
    """

    uses_training_images: ClassVar[bool] = False
    has_likelihood: ClassVar[bool] = False
    uses_views: ClassVar[bool] = True
    looks_at_target_images: ClassVar[bool] = True
    keep: float = Field(default=0.3, gt=0, le=1)

    def scores(self, problem: Problem, ranks: Sequence[int]) -> Iterator[list[Array]]:
        """See `Predictor.scores`: numbers of votes, with one more for the class that wins a tie."""
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
    """Return the votes of the `kept` most confident views, ties decided, shape (m, classes), of (views, m, classes)."""
    log_p = log_softmax(logits, axis=2)
    order = (-(np.exp(log_p) * log_p).sum(axis=2)).argsort(axis=0, kind="stable")
    ballots = np.take_along_axis(logits.argmax(axis=2), order, axis=0)  # the most confident view first
    images = np.arange(logits.shape[1])
    votes = np.zeros(logits.shape[1:])
    for ballot in ballots[:kept]:
        votes[images, ballot] += 1
    tied = votes == votes.max(axis=1, keepdims=True)
    asked = slice(kept, None) if kept < len(logits) else slice(1)  # where all have voted, the most confident again
    likeliest = np.where(tied, logits[order[asked][0], images], -np.inf).argmax(axis=1)
    open_ = tied.sum(axis=1) > 1
    winner, undecided = likeliest, open_.copy()
    for ballot in ballots[asked]:
        decides = undecided & tied[images, ballot]
        winner = np.where(decides, ballot, winner)
        undecided &= ~decides
    votes[images[open_], winner[open_]] += 1
    return votes
