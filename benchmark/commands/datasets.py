"""`icm-bench datasets`: prints the catalog of known data sets, `benchmark/datasets/catalog.py`."""

import json
from dataclasses import asdict

from benchmark.common.errors import some
from benchmark.datasets.catalog import CATALOG


def list_catalog(as_json: bool) -> None:
    """Print the facts about every data set, as text or as JSON."""
    if as_json:
        print(json.dumps([{**asdict(facts), "images": facts.images} for facts in CATALOG.values()], indent=2))
        return
    for facts in CATALOG.values():
        environments = some(name if n is None else f"{name} {n}" for name, n in facts.environments.items())
        print(f"{facts.name}  (folder {facts.folder}, {facts.classes} classes)")
        if environments:
            print(f"  environments: {environments} = {facts.images} images; counts {facts.counts}")
        print(f"  licence: {facts.licence}\n  citation: {facts.citation}\n  obtain: {facts.obtain}\n")
