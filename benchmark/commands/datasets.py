"""`icm-bench datasets`: prints the catalog of known data sets, `benchmark/datasets/catalog.py`."""

import json
from dataclasses import asdict

from benchmark.datasets.catalog import CATALOG

MAX_ENVIRONMENTS = 6  # number of environments listed for a data set that has more


def list_catalog(as_json: bool) -> None:
    """Print the facts about every data set, as text or as JSON."""
    if as_json:
        print(json.dumps([{**asdict(facts), "images": facts.images} for facts in CATALOG.values()], indent=2))
        return
    for facts in CATALOG.values():
        listed = list(facts.environments.items())[:MAX_ENVIRONMENTS]
        environments = ", ".join(name if images is None else f"{name} {images}" for name, images in listed)
        if (count := len(facts.environments)) > MAX_ENVIRONMENTS:
            environments = f"{count}, {environments} and so on"
        print(f"{facts.name}  (folder {facts.folder}, {facts.classes} classes)")
        if environments:
            print(f"  environments: {environments} = {facts.images} images; counts {facts.counts}")
        print(f"  licence: {facts.licence}\n  citation: {facts.citation}\n  obtain: {facts.obtain}\n")
