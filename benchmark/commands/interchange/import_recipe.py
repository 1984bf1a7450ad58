"""The recipe of embeddings that were imported: a new one, or one more backbone in the one that is there."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from benchmark.commands.interchange.import_embeddings import Imported
from benchmark.commands.interchange.new_files import write_new
from benchmark.commands.interchange.whole import whole
from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import from_yaml
from benchmark.method.interventions import INTERVENTIONS
from benchmark.method.interventions.imported import ImportedView
from benchmark.recipe.loading import load_recipe, parse_recipe
from benchmark.store.embeddings import ORIGINAL

Became = Literal["new", "added", "complete", "kept"]


def into_recipe(imported: Imported, made_with: Mapping[str, Any] | None, file: Path) -> tuple[Became, str]:
    """Write a recipe that sweeps all of what was imported, or add its backbone to the recipe that is there.

    Nothing else of a file that is there changes, its comments neither.

    Args:
        imported: what was.
        made_with: what of the recipe that made the embeddings counts for them; None for foreign ones.
        file: of the recipe.

    Returns:
        What became of the file, and the same in words: it is `new`, had the backbone `added`, was `complete` before, or
        is `kept` as it is, and then does not sweep what was imported.

    Raises:
        IcmBenchError: the file cannot be written.
    """
    import yaml

    content = json.loads(json.dumps(_start(imported, made_with)))
    if write_new(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), "--recipe"):
        return "new", "a recipe to start with"
    kept = "was there before, and stays as it is"
    try:
        recipe = load_recipe(file)
    except IcmBenchError as error:
        return "kept", f"{kept}: {error}"
    if not any(dataset.is_imported and dataset.name == imported.dataset for dataset in recipe.datasets):
        return "kept", f"{kept}, since '{imported.dataset}' is no imported data set of it; give another --recipe"
    if imported.backbone in (spec.label for spec in recipe.backbones):
        return "complete", "has this backbone already, and stays as it is"
    text = file.read_bytes().decode()
    if (longer := _with_backbone(text, content["backbones"][0])) is None:
        return "kept", f"{kept}; add '{imported.backbone}' to its backbones"
    with whole(file.resolve(), "--recipe") as place:
        place.write_bytes(longer.encode())
        shutil.copymode(file, place)
    before = from_yaml(text, str(file)).get("interventions")
    views = "" if before == content.get("interventions") else "; its interventions stay as they are"
    return "added", f"has the backbone '{imported.backbone}' too{views}"


def _start(imported: Imported, made_with: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a recipe, as plain data, that sweeps all of what was imported."""
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


def _with_backbone(text: str, backbone: Mapping[str, Any]) -> str | None:
    """Return a recipe with one more backbone, all else as it stands; None where its list cannot be added to."""
    import yaml

    item = yaml.safe_dump(backbone, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000).strip()
    document: Any = yaml.compose(text, yaml.SafeLoader)
    listed = next((value for key, value in document.value if key.value == "backbones"), None)
    if not isinstance(listed, yaml.SequenceNode):
        return None
    last = listed.value[-1]
    if listed.flow_style:
        end = last.end_mark.index
        longer = f"{text[:end]}, {item}{text[end:]}"
    else:
        while isinstance(last, yaml.CollectionNode) and not last.flow_style:  # whose own end lies on a later line
            last = last.value[-1][1] if isinstance(last, yaml.MappingNode) else last.value[-1]
        end = text.find("\n", last.end_mark.index)
        end = len(text) if end < 0 else end
        longer = f"{text[:end]}\n{' ' * listed.start_mark.column}- {item}{text[end:]}"
    try:
        before, after = from_yaml(text, "before"), from_yaml(longer, "after")
        parse_recipe(after)
    except IcmBenchError:
        return None
    return longer if after == {**before, "backbones": [*before["backbones"], backbone]} else None
