"""Findings of pydantic as one sentence."""

import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import parse_recipe

GOOD = {"name": "r", "datasets": ["PACS"], "backbones": [{"name": "ViT-B-32", "pretrained": "random"}]}


@pytest.mark.parametrize(
    ("changes", "begins", "ends"),
    [
        ({"sweep": {"seeds": "x"}}, "sweep.seeds: input should be a valid list", "not 'x'."),
        ({"datasets": [{}]}, "the key 'datasets.0.name' is missing", "is missing."),  # of both branches of a union
        ({"sweep": {"lambdas": ["x"]}}, "sweep.lambdas.0: input should be a valid number", "not 'x'."),
        ({"sweep": {"lamda": 1}, "run": {"stor": 1}}, "unknown key 'sweep.lamda'", "; see to 'run.stor' as well."),
        (
            {"backbones": [{"name": "a", "precision": 1, "mean": 2, "seed": "q", "folder": 3, "quick_gelu": 9}]},
            "backbones.0.folder",
            " and 1 more as well.",
        ),
    ],
)
def test_a_sentence_explains_one_key_and_names_the_others(changes: dict[str, object], begins: str, ends: str) -> None:
    with pytest.raises(IcmBenchError) as error:
        parse_recipe({**GOOD, **changes}, "file")
    said = str(error.value)
    assert said.startswith(f"file: {begins}"), said
    assert said.endswith(ends), said
    assert "more like this" not in said
