"""Recipes in published records: JSON without any place on the author's machine, and the recipe made from it again."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import MAX_BYTES, from_json
from benchmark.common.secrets import hidden_in
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe

PLACE = "PLACE"  # stands for the folder in a path, of which a published recipe keeps the last part only
_DROPPED = ("root", "expected")  # keys of a data set that are left out
_ABSOLUTE = re.compile(r"(?:[/~\\]|[A-Za-z]:[/\\]|[A-Za-z][A-Za-z0-9+.-]*://)\S")


def without_paths(recipe: Recipe) -> str:
    """Return a recipe, defaults included, as JSON for a published record.

    It has neither places nor secrets. The keys `run`, `names`, `sweep.metrics`, and of data sets `root` and `expected`
    are left out; they change no number. Of other paths (weights, text pairs, tables outside the root) only the last
    part is kept, as `PLACE/NAME`. Without such paths, `recipe_from` gives a recipe with the same hash.
    """
    content = recipe.model_dump(mode="json", exclude={"run": True, "names": True, "sweep": {"metrics"}})
    for dataset in content["datasets"]:
        for key in _DROPPED:
            dataset.pop(key, None)
    for spec, backbone in zip(recipe.backbones, content["backbones"], strict=True):
        schema = next((s for s in ("hf:", "local-dir:") if spec.name.startswith(s)), "")
        if schema == "local-dir:" or (schema and spec.local_folder):
            backbone["name"] = schema + _last(spec.name.removeprefix(schema))
        backbone["folder"] = spec.folder and _last(spec.folder)
        if spec.pretrained and ("/" in spec.pretrained or Path(spec.pretrained).is_file()):
            backbone["pretrained"] = _last(spec.pretrained)
    if text := content["interventions"]["text"]:
        text["pairs"] = text["pairs"] and _last(text["pairs"])
    prompts = content.pop("prompts")  # texts, which may begin like a path
    return json.dumps(hidden_in({**_shortened(content), "prompts": prompts}), ensure_ascii=True, separators=(",", ":"))


def recipe_from(text: str, source: str, data: str | None = None, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe in the JSON of `without_paths`.

    Args:
        text: the JSON, which may come from strangers.
        source: name of the record, for error messages.
        data: parent folder or URI of the data sets that are images in folders (`run.data`). Default: none.
        overrides: dotted key -> value that replaces the recipe's, as of `load_recipe`. Default: none.

    Raises:
        IcmBenchError: the text is not a valid recipe or names a place; or it needs something that a record does not
            hold: a folder of images and no `data`, imported embeddings, or another file of the author.
    """
    if len(text) > MAX_BYTES:
        raise IcmBenchError(f"{source}: the recipe has more than {MAX_BYTES} bytes; no recipe of icm-bench is so long.")
    content = from_json(text, f"The recipe of {source}")
    datasets = content.get("datasets") if isinstance(content, dict) else None
    if not isinstance(datasets, list) or not all(isinstance(dataset, dict) for dataset in datasets):
        raise IcmBenchError(f"The recipe of {source} has no list of datasets; take the record from where it came.")
    rest = {key: value for key, value in content.items() if key != "prompts"}
    if "run" in content or any("root" in dataset for dataset in datasets) or _shortened(rest) != rest:
        raise IcmBenchError(f"The recipe of {source} names places on a machine; a record of icm-bench has none.")
    if needing := next((d.get("name") for d in datasets if d.get("needs_data") and not data), None):
        raise IcmBenchError(_needs(source, needing))
    recipe = parse_recipe(
        content, f"The recipe of {source}", {**(overrides or {}), **({"run.data": data} if data else {})}
    )
    if recipe.is_imported:
        name = recipe.datasets[0].name
        raise IcmBenchError(
            f"{source}: the embeddings of '{name}' were imported, and a record holds no embeddings; import them, run "
            f"the recipe and compare the results."
        )
    if needing := next((d.name for d in recipe.located() if d.root is None and not d.is_built), None):
        raise IcmBenchError(_needs(source, needing))
    for key, value in _texts(recipe.model_dump(mode="json", exclude={"run", "prompts"})):
        if f"{PLACE}/" in value:
            raise IcmBenchError(
                f"{source}: {key} was a file or folder of the author, '{_name(value)}'; give yours: --set {key}=PATH."
            )
    return recipe


def _needs(source: str, dataset: str) -> str:
    return f"{source}: the data set '{dataset}' is images in a folder; give the folder that holds it with --data."


def _name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _last(path: str) -> str:
    return f"{PLACE}/{_name(path.partition('?')[0] if '://' in path else path)}"


def _shortened(content: Any) -> Any:
    """Return plain data in which every value that is an absolute path or a URI is replaced by `_last` of it."""
    if isinstance(content, str):
        return _last(content) if _ABSOLUTE.match(content) else content
    if isinstance(content, dict):
        return {key: _shortened(value) for key, value in content.items()}
    return [_shortened(value) for value in content] if isinstance(content, list) else content


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted key, value) of each text in plain data."""
    if isinstance(content, str):
        yield key, content
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield from _texts(value, f"{key}.{name}".lstrip("."))
