"""Searches: what they suggest, that they find again what they found, and that no target reaches them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmark.cli import main
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.evaluation.metrics import CURVES
from benchmark.method.evaluation.selection import SCORES, source_scores
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.specs import SearchSpec
from benchmark.store.rows import read_source_scores, schema
from benchmark.sweep.search import changed_kinds, mean_score, rounds_of, suggester
from tests.conftest import toy_in

SPACE = {"lambda": (0.01, 100.0), "gaussian_blur.sigma": (0.0, 3.0)}
METHODS = ["random", "optuna"]


def content(**search: Any) -> dict[str, Any]:
    return {
        "name": "searched",
        "datasets": [{"name": "toy", "root": "toy"}],
        "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
        "interventions": {"kinds": ["gaussian_blur", "posterize"]},
        "sweep": {"search": search},
    }


def best_found(method: str, samples: int, seed: int) -> float:
    """Highest value of a smooth function of two parameters, peaked at lambda 3 and sigma 2, after so many points."""
    found = suggester(SearchSpec(method=method, samples=samples, batch=10, seed=seed), SPACE)
    best = -np.inf
    for n in rounds_of(SearchSpec(samples=samples, batch=10)):
        values = [-(np.log(p["lambda"] / 3) ** 2) - (p["gaussian_blur.sigma"] - 2) ** 2 for p in found.ask(n)]
        found.tell(values)
        best = max(best, *values)
    return best


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_and_scores_give_the_same_points_within_bounds(method: str) -> None:
    asked = []
    for seed in (0, 0, 1):
        found = suggester(SearchSpec(method=method, seed=seed), SPACE)
        rounds = []
        for _ in range(4):
            points = found.ask(5)
            found.tell([None if i == 3 else p["lambda"] for i, p in enumerate(points)])  # one that failed
            rounds.append(points)
        asked.append(rounds)
    assert asked[0] == asked[1] != asked[2]
    for name, (low, high) in SPACE.items():
        values = [p[name] for points in asked[0] for p in points]
        assert low <= min(values) < max(values) <= high
    lambdas = [p["lambda"] for points in asked[0] for p in points]
    assert sum(x < 1 for x in lambdas) > 2  # log-uniform: a uniform draw has one in a hundred there


def test_optuna_learns_from_the_scores() -> None:
    """Which is why a target among them would show."""
    found = {method: np.median([best_found(method, 60, seed) for seed in range(5)]) for method in METHODS}
    assert found["optuna"] > found["random"]


def test_rounds_and_scores() -> None:
    assert rounds_of(SearchSpec(samples=20, batch=8)) == [8, 8, 4]
    assert rounds_of(SearchSpec(samples=3, batch=8)) == [3]
    assert mean_score([0.5, 0.7]) == pytest.approx(0.6)
    assert mean_score([0.5, None]) is None
    kinds = parse_recipe(content()).interventions.by_label()
    changed = changed_kinds({"lambda": 1.0, "gaussian_blur.sigma": 1.5, "posterize.bits": 2.6}, kinds)
    assert changed["gaussian_blur"].params["sigma"] == (1.5, 1.5)
    assert changed["posterize"].params["bits"] == 3


def test_objective_is_a_rule_on_sources_or_the_recipe_is_refused() -> None:
    with pytest.raises(IcmBenchError, match=r"sweep.search.rule: input should be 'lodo' or 'training_domain'"):
        parse_recipe(content(rule="oracle"))
    for key, message in (
        ({"strengths": {"blur": {"sigma": [0, 1]}}}, "'blur' is not among interventions.kinds"),
        ({"strengths": {"gaussian_blur": {"width": [0, 1]}}}, "no parameter 'width'"),
        ({"strengths": {"posterize": {"bits": [1, 40]}}}, "less than or equal to 8"),
        ({"lambdas": [3, 1]}, "must ascend"),
        ({"method": "grid"}, "'random' or 'optuna'"),
    ):
        with pytest.raises(IcmBenchError, match=message):
            parse_recipe(content(**key))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, tiny_random: dict[str, Any], embedded_toy: Path) -> Path:
    """A folder with a recipe that Optuna has searched, strengths included."""
    folder = tmp_path_factory.mktemp("searched")
    recipe = {
        **content(method="optuna", samples=3, batch=2, strengths={"gaussian_blur": {"sigma": [0.5, 2]}}),
        "datasets": [toy_in(folder, embedded_toy)],
        "backbones": [tiny_random],
        "run": {"store": str(folder / "store"), "out": str(folder / "out")},
    }
    sets = [{"name": kind, "kinds": [kind]} for kind in ("gaussian_blur", "posterize")]
    recipe["sweep"] |= {"seeds": [1], "projections": ["identity", "icm", "generalized"], "intervention_sets": sets}
    recipe["sweep"] |= {"predictors": ["zero_shot"]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["run", str(folder / "recipe.yaml")]) == 0
    return folder


def record(store: Path) -> list[str]:
    (file,) = (store / "runs").rglob("*.json")
    return list(json.loads(file.read_text())["trials"])


def test_a_search_is_reported_and_found_again(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(searched / "recipe.yaml"), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    rows = {p: p.stat().st_mtime_ns for p in (searched / "store" / "rows").iterdir()}
    # The grid keeps what has nothing to search: identity, and generalized without blur. The search has 3 points for each
    # of 4 held-out environments: of icm with either set, and of generalized with blur.
    assert len(rows) == planned["trials"] == len(record(searched / "store")) == 2 + 9 * 4
    assert sum(pq.read_metadata(p).num_rows for p in rows) == planned["rows"] == 2 * 4 + 9 * 4
    assert planned["searched_passes"] == 12 * 2 * 80  # a view of every image, for each point of the methods with blur
    assert "gaussian_blur(sigma=(" in (searched / "out" / "tables" / "picks.csv").read_text()
    assert main(["run", str(searched / "recipe.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["embedded"] == 0
    assert {p: p.stat().st_mtime_ns for p in (searched / "store" / "rows").iterdir()} == rows


def test_a_target_that_tempts_changes_no_suggestion(searched: Path, tmp_path: Path) -> None:
    """Rows whose target columns say that the worst point is perfect lead to the same points as the true rows."""
    store = tmp_path / "store"
    shutil.copytree(searched / "store", store)
    expected = record(store)
    columns = {*(m.key for m in CURVES), *(n for n in schema().names if n.endswith("_oracle"))}
    for i, file in enumerate(sorted((store / "rows").iterdir())):
        table = pq.read_table(file)
        for name in sorted(columns):
            value_type = table[name].type.value_type if pa.types.is_list(table[name].type) else None
            tempting = i % 7 == 0 if value_type == pa.bool_() else float(i % 7 == 0)
            lie = [[tempting] * len(v) if isinstance(v, list) else v for v in table[name].to_pylist()]
            table = table.set_column(table.column_names.index(name), name, pa.array(lie, table[name].type))
        pq.write_table(table, file)
    assert main(["sweep", str(searched / "recipe.yaml"), "--store", str(store), "--out", str(tmp_path / "out")]) == 0
    assert record(store) == expected


def test_nothing_of_a_target_is_read_or_reported(searched: Path) -> None:
    names = record(searched / "store")
    rows = read_source_scores(Storage(str(searched / "store")), names)
    assert {key for row in rows for key in row} == {"held_out", "seed", "fold", "training_domain", "lodo"}
    assert set(source_scores(rows)) == set(SCORES)
    with pytest.raises(KeyError):
        source_scores([{"held_out": "a", "seed": 0, "target": [1.0]}])


def test_a_lambda_that_was_found_can_be_exported(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", str(searched / "recipe.yaml"), "--rank", "4", "--to", str(searched / "projection"), "--json"]
    command += ["--projection", "icm", "--intervention-set", "posterize"]
    assert main([*command, "--lambda", "3.27"]) == 0
    assert json.loads(capsys.readouterr().out)["lambda"] == 3.27
    assert main([*command, "--lambda", "5000", "--overwrite"]) == 2
    assert "--lambda: 5000 is not between 0.01 and 1000, the bounds of the search" in capsys.readouterr().err
