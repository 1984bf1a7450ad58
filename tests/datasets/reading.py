"""Helpers of data set tests: read a data set, get its refusal, write tables with Hugging Face features."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.spec import DatasetSpec

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def read(root: Path | str, name: str = "toy", **keys: Any) -> Manifest:
    """Return the manifest of a data set."""
    return read_manifest(DatasetSpec.model_validate({"name": name, "root": str(root), **keys}))


def refusal(root: Path | str, name: str = "toy", **keys: Any) -> str:
    """Return the one line in which a data set is refused."""
    with pytest.raises(IcmBenchError) as caught:
        read(root, name, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_features(table: pa.Table, features: dict[str, Any]) -> pa.Table:
    """Return a table that says of its columns what `datasets` says."""
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
