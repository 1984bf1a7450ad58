"""CoOp against a short loop without hooks, and properties of learnt prompts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from benchmark.method.arrays import unit
from benchmark.method.predictors import Problem
from benchmark.method.predictors.base import TextTower
from benchmark.method.predictors.coop import CoOp

D, WIDTH, CLASSES, CONTEXT, SCALE = 6, 5, 4, 3, 20.0
NAMES = tuple(f"class{i}" for i in range(CLASSES))


def words_of(names: Sequence[str]) -> dict[str, int]:
    words = ("[", "X", *(word for name in names for word in f"{name}.".split()))
    return {word: number for number, word in enumerate(dict.fromkeys(words))}


WORDS = words_of(NAMES)


def tower(names: Sequence[str] = NAMES) -> tuple[TextTower, nn.Embedding, torch.Tensor]:
    """A text tower that mixes its tokens and maps them: and its weights."""
    generator = torch.Generator().manual_seed(0)
    words = words_of(names)
    table = nn.Embedding(len(words), WIDTH)
    table.weight = nn.Parameter(torch.randn(len(words), WIDTH, generator=generator), requires_grad=False)
    weights = torch.randn(WIDTH, D, generator=generator)

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[words[word] for word in ("[", *text.split())] for text in texts])

    return (
        TextTower(tuple(names), tokenize, table, lambda tokens: torch.tanh(table(tokens)).mean(1) @ weights),
        table,
        weights,
    )


def problem(**changes: object) -> Problem:
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=60)
    centres = rng.normal(size=(CLASSES, D))
    train, test = (centres[c] + 0.5 * rng.normal(size=(len(c), D)) for c in (labels, np.arange(CLASSES)))
    made = Problem(train, labels, rng.normal(size=(CLASSES, D)), [test], logit_scale=SCALE, seed=3, tower=tower()[0])
    return replace(made, **changes)  # type: ignore[arg-type]


def reference(
    p: Problem, rank: int, epochs: int, present: Sequence[int] = range(CLASSES), matrix: np.ndarray | None = None,
    offset: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Scores by the learnt texts, directly from the paper, without replaced tokens."""
    _, table, weights = tower()
    own = torch.stack([table.weight[WORDS[f"{name}."]] for name in NAMES])
    generator = torch.Generator().manual_seed(p.seed)
    v = (0.02 * torch.randn(CONTEXT, WIDTH, generator=generator)).requires_grad_()

    def texts() -> torch.Tensor:
        rows = [torch.tanh(torch.cat([table.weight[:1], v, name[None]])).mean(0) @ weights for name in own]
        t = normalize(torch.stack(rows))
        t = t if offset is None else t - torch.from_numpy(offset).float()
        return t if matrix is None else t @ torch.from_numpy(matrix).float()

    z, y = normalize(torch.from_numpy(p.train[:, :rank]).float()), torch.tensor([present.index(c) for c in p.labels])
    momentum, step, steps = torch.zeros_like(v), 0, epochs * -(-len(z) // 32)
    for _ in range(epochs):
        for batch in torch.randperm(len(z), generator=generator).split(32):
            loss = cross_entropy(SCALE * z[batch] @ normalize(texts()[list(present), :rank]).T, y[batch])
            (gradient,) = torch.autograd.grad(loss, v)
            momentum = 0.9 * momentum + gradient + 5e-4 * v.detach()
            v = (v - 0.002 * (1 + np.cos(np.pi * step / steps)) / 2 * momentum).detach().requires_grad_()
            step += 1
    learnt = texts().detach().numpy().astype(np.float64)
    return np.asarray(SCALE * unit(p.tests[0][:, :rank]) @ unit(learnt[:, :rank]).T)


@pytest.mark.parametrize("rank", [2, D])
@pytest.mark.parametrize("epochs", [0, 4])
def test_scores_are_those_of_a_loop_without_hooks(rank: int, epochs: int) -> None:
    p = problem()
    [[scores]] = CoOp(context=CONTEXT, epochs=epochs).scores(p, [rank])
    np.testing.assert_allclose(scores, reference(p, rank, epochs), atol=2e-4)


@pytest.mark.parametrize("offset", [None, np.linspace(-0.5, 0.3, D)], ids=["linear", "offset"])
def test_texts_go_through_the_map_of_the_basis_and_every_rank_starts_anew(offset: np.ndarray | None) -> None:
    matrix = np.random.default_rng(1).normal(size=(D, D))
    p = problem(tower=tower()[0].mapped(matrix, offset))
    several = [of_rank[0] for of_rank in CoOp(context=CONTEXT, epochs=2).scores(p, [2, 4])]
    for rank, scores in zip((2, 4), several, strict=True):
        np.testing.assert_allclose(scores, reference(p, rank, 2, matrix=matrix, offset=offset), atol=2e-4)


def test_training_fits_the_images_and_leaves_the_tower_as_it_was() -> None:
    p = problem()
    assert p.tower is not None
    whole = p.tower
    before = whole.encode(whole.tokenize(["X class0."]))
    p = replace(p, tests=[p.train])
    models = [CoOp(context=CONTEXT, epochs=epochs, learning_rate=0.1) for epochs in (0, 60)]
    right = [(model.predict(p, [D])[0][0] == p.labels).mean() for model in models]
    assert right[1] > right[0] + 0.1
    assert torch.equal(whole.encode(whole.tokenize(["X class0."])), before)  # neither weights nor a hook remain


def test_a_class_without_images_takes_no_part_in_training_and_is_scored_by_its_name() -> None:
    p = problem()
    keep = p.labels != 2
    p = replace(p, train=p.train[keep], labels=p.labels[keep])
    [[scores]] = CoOp(context=CONTEXT, epochs=3).scores(p, [D])
    np.testing.assert_allclose(scores, reference(p, D, 3, [0, 1, 3]), atol=2e-4)


def test_without_a_tower_or_a_token_for_the_placeholder_it_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="coop: the problem has no text tower"):
        list(CoOp().scores(problem(tower=None), [D]))
    one = tower()[0]
    split = replace(one, tokenize=lambda texts: torch.arange(8).repeat(len(texts), 1))
    with pytest.raises(ValueError, match="no single token for 'X'"):
        list(CoOp(context=CONTEXT).scores(problem(tower=split), [D]))
