"""Recipes of published records: plain data without any place on the author's machine, and the recipe from it again."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe

_PLACE = re.compile(r"(?s)(hf:|local-dir:|)(?:[A-Za-z][\w+.-]*://|[/~\\]|[A-Za-z]:[/\\])\S.*")
_FILES = re.compile(r"backbones\.\d+\.folder|interventions\.text\.pairs")  # keys of files and folders, also relative

_CHECKPOINTS = (".pt", ".pth", ".bin", ".safetensors")


def without_paths(content: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a recipe in plain data without places, and the dotted keys of other values that were places.

    The keys `run`, `names`, `sweep.metrics`, and of data sets `root` and `expected` are left out; they change no
    number. Of other places (weights, text pairs, tables outside the root) only the name of the file is left. If there
    are none, the hash of the recipe is unchanged.
    """
    shortened: list[str] = []
    kept = {key: value for key, value in content.items() if key not in ("run", "names")}
    kept["datasets"] = [{k: v for k, v in one.items() if k not in ("root", "expected")} for one in kept["datasets"]]
    kept["sweep"] = {key: value for key, value in kept["sweep"].items() if key != "metrics"}
    return {k: v if k == "prompts" else _shortened(v, k, shortened) for k, v in kept.items()}, shortened


def recipe_from(
    content: Mapping[str, Any], shortened: Sequence[str], source: str, overrides: Mapping[str, Any]
) -> Recipe:
    """Return the recipe in plain data from `without_paths`, which may come from strangers.

    Args:
        content: the plain data.
        shortened: dotted keys whose values were places; each needs a value in `overrides`.
        source: name of the record, for error messages.
        overrides: dotted key -> value that replaces the recipe's, as of `load_recipe`. `run.data` is the parent folder
            or URI of the data sets that are images in folders.

    Raises:
        IcmBenchError: the content is no valid recipe or names a place; or it needs what a record does not hold: a
            folder of images and no `run.data`, imported embeddings, or another file of the author.
    """
    try:
        kept, places = without_paths(content)
        needing = [one["name"] for one in kept["datasets"] if one.get("needs_data")]
    except (KeyError, TypeError, AttributeError) as error:
        raise IcmBenchError(f"{source}: its recipe is damaged ({error!r}); fetch the record again.") from error
    if kept != content or not {*places} <= {*shortened}:
        raise IcmBenchError(f"{source}: its recipe names places on a machine, and a record has none; it is not run.")
    for key in shortened:
        if key not in overrides:
            raise IcmBenchError(f"{source}: {key} was a file or folder of the author; give yours: --set {key}=PATH.")
    if "run.data" in overrides or not needing:  # else data sets with `needs_data` would be left out
        recipe = parse_recipe(kept, f"The recipe of {source}", overrides)
        if recipe.is_imported:
            said = f"{source}: its embeddings were imported, and a record holds none"
            raise IcmBenchError(f"{said}; import them, run the recipe, and compare the numbers.")
        needing = [one.name for one in recipe.located() if one.root is None and not one.is_built]
        if not needing:
            return recipe
    raise IcmBenchError(f"{source}: '{needing[0]}' is images in a folder; give the folder that holds it with --data.")


def _shortened(content: Any, key: str, found: list[str]) -> Any:
    """Return plain data in which places are replaced by the name of their file; add their dotted keys to `found`."""
    if isinstance(content, dict):
        return {name: _shortened(value, f"{key}.{name}", found) for name, value in content.items()}
    if isinstance(content, list):
        return [_shortened(value, f"{key}.{i}", found) for i, value in enumerate(content)]
    if not isinstance(content, str) or not _is_file(key, content):
        return content
    found.append(key)
    schema = next((schema for schema in ("hf:", "local-dir:") if content.startswith(schema)), "")
    path = content.removeprefix(schema)
    return schema + re.split(r"[/\\]", (path.partition("?")[0] if "://" in path else path).rstrip("/\\"))[-1]


def _is_file(key: str, value: str) -> bool:
    if re.fullmatch(r"backbones\.\d+\.name", key) and value.startswith(("hf:", "local-dir:")):
        schema, _, place = value.partition(":")
        return schema == "local-dir" or bool(_PLACE.fullmatch(value)) or Path(place).expanduser().is_dir()
    weights = re.fullmatch(r"backbones\.\d+\.pretrained", key) and ("/" in value or value.endswith(_CHECKPOINTS))
    return bool(weights or _FILES.fullmatch(key) or _PLACE.fullmatch(value))
