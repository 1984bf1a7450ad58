"""Records of the demo's encoder on its data set and on photos. All tests of these results, which take a minute to make,
are in this module, so that one process makes them."""

from pathlib import Path

import pytest

from benchmark.cli import main
from benchmark.commands.gather import rows_of
from benchmark.common.storage.files import Storage
from benchmark.recipe.loading import load_recipe
from tests.reports import whole
from tests.results.conftest import WHO
from tests.results.every_eval_ever import validated
from tests.results.test_numbers import compare, verdicts_of
from tests.results.test_schema import conforms

RECIPE = """\
name: real-results
datasets: [emoji_styles, PACS]
backbones: [{name: MiniLiT, image_size: 96}]
interventions: {kinds: [grayscale]}
sweep:
  folds: 5
  seeds: [0]
  lambdas: [10]
  normalize: [before]
  ranks: [64, 256]
  predictors: [zero_shot]
  projections: [identity, icm, {name: shrinkage, lambdas: [0, 3]}, fixed]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, local_ray: None, demo_set: object, pacs_sample: Path) -> Path:  # noqa: ARG001
    """The folder of the results, beside recipe.yaml and store."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "recipe.yaml").write_text(RECIPE)
    places = ("--store", str(folder / "store"), "--data", str(pacs_sample))
    assert main(["run", str(folder / "recipe.yaml"), *places]) == 0
    assert main(["publish", str(folder / "recipe.yaml"), *places, "--to", str(folder / "results"), *WHO]) == 0
    return folder / "results"


@pytest.mark.long("a field of a real data set or encoder (groups, prompts, long names) does not fit the schema")
def test_they_conform_to_the_schema(results: Path) -> None:
    assert conforms(results) == 4 * (1704 + 700)  # methods, and images of both sets
    assert [one for one in validated(results) if one["errors"] or one["warnings"]] == []


@pytest.mark.long("groups, unequal classes or real answers make numbers of records and of reports differ")
def test_their_numbers_follow_from_their_answers(results: Path, pacs_sample: Path) -> None:
    places = {"run.store": str(results.parent / "store"), "run.data": str(pacs_sample)}
    assert compare(results, "real-results", verdicts_of(results.parent / "recipe.yaml", **places)) == 6


@pytest.mark.long("a real report states a number twice and differently, or a method has two names")
def test_numbers_and_names_are_the_same_all_over_the_report(results: Path, pacs_sample: Path, tmp_path: Path) -> None:
    store = str(results.parent / "store")
    recipe = load_recipe(results.parent / "recipe.yaml", {"run.store": store, "run.data": str(pacs_sample)})
    gathered, *_ = rows_of(recipe, Storage(store))
    report = whole.write(gathered.rows, gathered.tested, tmp_path, "real-results")
    assert whole.faults(report) == []
    _, shared = whole.disagreements(report)
    assert shared.keys() >= {"page", "terminal", "verdicts", "main", "ablation_rank", "figure environments"}
