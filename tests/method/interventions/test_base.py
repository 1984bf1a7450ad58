"""Inputs and required outputs of user-defined interventions."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from benchmark.common.errors import IcmBenchError
from benchmark.method.interventions import Intervention
from benchmark.method.interventions.photometric import Invert


class Shift(Intervention):
    """Adds the first of two drawn numbers; remembers nothing."""

    strength: int = 5

    def draw(self, rng: np.random.Generator) -> Sequence[float]:
        return (int(rng.integers(1, 100)), self.strength)

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        assert drawn.dtype == torch.float64
        assert drawn.shape == (len(images), 2)
        return images + drawn[:, :1, None, None].to(torch.uint8)


class Careless(Intervention):
    """Forgets to go back to uint8."""

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        assert drawn.shape == (len(images), 0)
        return images / 2


def drawn(kind: Intervention, ids: list[str], seed: int) -> list[int]:
    """Return the draws for each id, read from black images."""
    black = torch.zeros(len(ids), 3, 2, 2, dtype=torch.uint8)
    return [int(view.unique()) for view in kind.views(black, ids, seed)]


def test_draws_follow_id_seed_and_parameters_not_the_place_in_the_batch() -> None:
    ids = [f"id-{i}" for i in range(20)]
    draws = dict(zip(ids, drawn(Shift(), ids, 0), strict=True))
    assert len(set(draws.values())) > 10
    assert drawn(Shift(), ids[::-1], 0) == [draws[i] for i in ids[::-1]]
    assert drawn(Shift(), ids[7:9], 0) == [draws[i] for i in ids[7:9]]
    assert drawn(Shift(), ids, 1) != list(draws.values())
    assert drawn(Shift(strength=6), ids, 0) != list(draws.values())


def test_a_wrong_result_names_the_intervention() -> None:
    with pytest.raises(IcmBenchError, match=r"Careless' must return uint8 of shape \(2, 3, 4, 4\), not float32"):
        Careless().views(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ["a", "b"], 0)


def test_kinds_without_a_draw_need_no_generator() -> None:
    assert Invert().draw(np.random.default_rng(0)) == ()
