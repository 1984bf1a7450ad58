"""Records and answers follow the schemas of Every Eval Ever, by jsonschema and by the package's own validator."""

import json
from pathlib import Path

import jsonschema
import pytest

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
