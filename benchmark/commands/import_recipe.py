"""A recipe to start with, of embeddings that were imported."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmark.commands.import_embeddings import Imported
from benchmark.commands.new_files import write_new
from benchmark.method.interventions import INTERVENTIONS
from benchmark.method.interventions.imported import ImportedView
from benchmark.recipe.loading import parse_recipe
from benchmark.store.embeddings import ORIGINAL


def start_recipe(imported: Imported, made_with: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a recipe, as plain data, that sweeps all of what was imported.

    Args:
        imported: what was.
        made_with: what of the recipe that made the embeddings counts for them; None for foreign ones.
    """
    content: dict[str, Any] = {
        "name": imported.dataset,
        "datasets": [{"name": imported.dataset, "layout": "imported"}],
        "backbones": [{"name": imported.backbone}],
    }
    if made_with:
        content |= {key: made_with[key] for key in ("images", "interventions") if key in made_with}
        content["backbones"] = [made_with["backbone"]] if "backbone" in made_with else content["backbones"]
        if imported.texts and "templates" in made_with:
            content["prompts"] = {"templates": made_with["templates"]}
    elif kinds := [view for view in imported.views if view != ORIGINAL]:
        content["interventions"] = {"kinds": [_kind(view) for view in kinds]}
    if not imported.texts:
        content["sweep"] = {"predictors": ["linear_probe"]}
    parse_recipe(content, "the recipe of the import")
    return content


def _kind(view: str) -> Any:
    """Return what a recipe calls a view: one of the names that all know, or a view and no more."""
    return view if view in INTERVENTIONS.names() else {"name": ImportedView(view=view).name, "view": view}


def write_recipe(content: Mapping[str, Any], file: Path) -> bool:
    """Write a recipe; return whether it was: one that is there stays as it is.

    Raises:
        IcmBenchError: the file cannot be written.
    """
    import yaml

    text = yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True, width=110)
    return write_new(file, text, "--recipe")
