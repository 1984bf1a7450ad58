"""Records and answers follow the schemas of Every Eval Ever, by jsonschema and by the package's own validator."""

import json
from pathlib import Path

import jsonschema
import pytest

from benchmark.cli import main
from tests.results.conftest import WHO
from tests.results.every_eval_ever import schema, validated


def conforms(folder: Path) -> int:
    """Check each record and each line by jsonschema; return the number of lines."""
    record, line = (jsonschema.Draft7Validator(schema(name)) for name in ("eval", "instance_level_eval"))
    lines = 0
    for file in (folder / "data").rglob("*.json"):
        record.validate(json.loads(file.read_text()))
    for file in (folder / "data").rglob("*.jsonl"):
        for text in file.read_text().splitlines():
            line.validate(json.loads(text))
            lines += 1
    return lines


def test_records_and_lines_conform_to_the_schemas_of_the_wheel(published: Path) -> None:
    assert conforms(published) > 2000


@pytest.mark.long("a later dependency of the package's validator refuses or doubts our records")
def test_the_validator_has_neither_errors_nor_warnings(published: Path) -> None:
    assert [one for one in validated(published) if one["errors"] or one["warnings"] or not one["valid"]] == []


@pytest.mark.long("a field of a real data set or encoder (groups, prompts, long names) does not fit the schema")
@pytest.mark.usefixtures("local_ray", "demo_set")
def test_records_of_the_demo_and_of_real_photos_conform(real: Path) -> None:
    assert conforms(real) == 4 * (1704 + 700)  # methods, and images of both sets
    assert [one for one in validated(real) if one["errors"] or one["warnings"]] == []


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory, pacs_sample: Path) -> Path:
    """Results of the demo's encoder on its data set and on the sample of PACS."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "recipe.yaml").write_text(REAL)
    places = ("--store", str(folder / "store"), "--data", str(pacs_sample))
    assert main(["run", str(folder / "recipe.yaml"), *places]) == 0
    assert main(["publish", str(folder / "recipe.yaml"), *places, "--to", str(folder / "results"), *WHO]) == 0
    return folder / "results"


REAL = """\
name: real-results
datasets: [emoji_styles, PACS]
backbones: [{name: MiniLiT, image_size: 160}]
interventions: {kinds: [grayscale]}
sweep:
  folds: 5
  seeds: [0]
  lambdas: [10]
  normalize: [before]
  ranks: [64, 256]
  predictors: [zero_shot]
  projections: [identity, icm, shrinkage, fixed]
"""
