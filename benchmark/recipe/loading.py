"""Loads recipes from YAML files. The command line overrides the file, and the file overrides the specs' defaults."""

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmark.common.code import NO_PLUGINS, find_own_code
from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import MAX_BYTES, from_yaml, opened
from benchmark.common.registry import is_plugin
from benchmark.common.spec import sentence
from benchmark.common.storage.places import check_address
from benchmark.recipe.recipe import Recipe


def load_recipe(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe in the YAML file at `path`.

    Args:
        path: path of the file.
        overrides: dotted key -> value that replaces the file's: `{"sweep.seeds": [0], "datasets.0.root": "/data"}`.

    Raises:
        IcmBenchError: the file cannot be read or parsed, or a key is unknown, missing, of the wrong type or in
            conflict with another; the message names file and key.
    """
    remedy = "`icm-bench init FOLDER` writes one, and `icm-bench recipes` lists packaged ones"
    with opened(path, "The recipe", remedy) as file:
        text = file.read(MAX_BYTES + 1)
    content = from_yaml(text, f"The recipe {path}")
    if not isinstance(content, dict):
        raise IcmBenchError(f"The recipe {path} must be a mapping with 'name', 'datasets' and 'backbones'.")
    return parse_recipe(content, str(path), overrides)


def parse_recipe(
    content: Mapping[str, Any], source: str = "recipe", overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Return the recipe in `content` (plain data, as parsed from YAML); `source` starts error messages."""
    changed = copy.deepcopy(dict(content))
    for key, value in (overrides or {}).items():
        _override(changed, key, value)
    _check_texts(changed, source)
    try:
        recipe = Recipe.model_validate(changed)
    except ValidationError as error:
        raise IcmBenchError(f"{source}: {sentence(error, Recipe)}") from error
    except IcmBenchError as error:
        raise IcmBenchError(f"{source}: {error}") from error
    classes = [backbone.name for backbone in recipe.backbones if not backbone.family]
    if any(map(is_plugin, classes)) and not os.environ.get(NO_PLUGINS):
        find_own_code()  # only other processes import these classes, and this one tells them where to look
    return recipe


def _check_texts(content: Any, source: str, key: str = "") -> None:
    """Refuse control characters, and addresses with credentials, in any text of a recipe."""
    if isinstance(content, str):
        check_address(content, f"{source}: '{key}'")
        if sign := re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", content):
            raise IcmBenchError(f"{source}: '{key}' holds the control character U+{ord(sign[0]):04X}; remove it.")
    items = enumerate(content) if isinstance(content, list | tuple) else ()
    for name, value in content.items() if isinstance(content, dict) else items:
        if isinstance(name, str):
            _check_texts(name, source, f"a key of {key or 'the whole'}")
        _check_texts(value, source, f"{key}.{name}".lstrip("."))


def _override(content: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a dotted key in plain data; missing mappings on the way are created."""
    place: Any = content
    parts = key.split(".")
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        if isinstance(place, list) and not (part.isdecimal() and int(part) < len(place)):
            raise IcmBenchError(f"--set {key}: '{part}' is not a position in a list of {len(place)}.")
        if not isinstance(place, list | dict):
            raise IcmBenchError(f"--set {key}: '{part}' is inside a value that is neither mapping nor list.")
        at: Any = int(part) if isinstance(place, list) else part
        if not left:
            place[at] = value
        elif isinstance(place, dict) and place.get(at) is None:
            place[at] = {}
        place = place[at]
