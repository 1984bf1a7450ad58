"""Text pairs of a recipe: read from a JSONL file, or generated from the data set's class names."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.plain import MAX_BYTES, RepeatedKeyError, opened, without_repeats
from benchmark.datasets.manifest import Manifest
from benchmark.method.evaluation.splits import base_classes
from benchmark.method.interventions.text import KEYS, REQUIRED_KEYS, TextPair, edited_pairs, template_pairs
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.sets import TEXT

# Provenance of a pair, written by `docs/examples/captions.py`.
ORIGIN_KEYS = ("dataset", "captioner", "model", "prompt", "seed")
_JSON_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}


def text_pairs_of(recipe: Recipe, manifest: Manifest) -> list[TextPair]:
    """Return a recipe's text pairs for one data set: read from a file, or made from templates or by edits.

    The list is empty if the recipe has no text pairs. The class of a pair is spelled as in `manifest.classes`, if it is
    one of them.

    Raises:
        IcmBenchError: the file cannot be read, the templates give fewer pairs than requested, or the pairs do not
            suit a protocol with new classes.
    """
    spec = recipe.interventions.text
    if spec is None:
        return []
    spelt = {name.replace("_", " "): name for name in manifest.classes}
    names = {**dict(zip(manifest.prompt_names, manifest.classes, strict=True)), **spelt}
    if spec.pairs:
        read = _with_image_ids(read_text_pairs(spec.pairs, manifest.name), manifest, spec.pairs)
        pairs = [replace(pair, class_name=names.get(pair.class_name or "", pair.class_name)) for pair in read]
        _check_classes(recipe, manifest, pairs, spec.pairs)
        return pairs
    # Two classes of ImageNet are called "missile": their pairs are equal, and generated once. They belong to the later
    # class, so that fits on base classes never see the name of a new class.
    called = list(dict.fromkeys(manifest.prompt_names))
    try:
        if spec.edits:
            made = edited_pairs(called, spec.edits, spec.per_class, spec.seed)
        else:
            made = template_pairs(called, per_class=spec.per_class, seed=spec.seed)
    except ValueError as error:
        raise IcmBenchError(f"interventions.text.per_class: {error}") from error
    return [replace(pair, class_name=names[pair.class_name or ""]) for pair in made]


def _check_classes(recipe: Recipe, manifest: Manifest, pairs: list[TextPair], file: str) -> None:
    """Refuse pairs without a class, or only of new classes, if the recipe has a protocol with new classes.

    Pairs that describe an image have the class of that image, and are not checked. Classes of the recipe's other data
    sets are neither base nor new, and are left out.
    """
    novel = next((p for p in recipe.protocols_for(manifest.name) if p.open_class), None)
    without_image = [pair for pair in pairs if pair.image_id is None]
    if not (novel and without_image and any(TEXT in chosen.kinds for chosen in recipe.intervention_sets())):
        return
    known = {*manifest.classes, *(pair.class_name for pair in without_image if len(recipe.datasets) > 1)} - {None}
    if stray := next((pair for pair in without_image if pair.class_name not in known), None):
        raise IcmBenchError(
            f"{file}: '{novel.name}' must not see new classes, and the pair '{stray.caption:.60}' names no class of "
            f"{manifest.name}; give it a 'class_name'."
        )
    rounding = recipe.sweep.base_classes or novel.rounding
    base = manifest.classes[: base_classes(len(manifest.classes), rounding)]
    if not any(pair.class_name in base for pair in without_image):
        raise IcmBenchError(
            f"{file}: '{novel.name}' fits on the base classes of {manifest.name} ({base[0]} to {base[-1]}), but "
            f"has no pairs of them; add some, or leave '{TEXT}' out of the sets."
        )


def _with_image_ids(pairs: list[TextPair], manifest: Manifest, file: str) -> list[TextPair]:
    """Return the pairs with image ids; the file may also name images by paths below the data set's folder."""
    ids = manifest.table["image_id"].to_pylist()
    by_name = {**dict(zip(manifest.table["path"].to_pylist(), ids, strict=True)), **{i: i for i in ids}}
    described = [pair for pair in pairs if pair.image_id is not None]
    for pair in described:
        if pair.image_id not in by_name:
            raise IcmBenchError(
                f"{file}: '{pair.image_id}' is not an image of {manifest.name}; give its path in the folder, or its id."
            )
    if described and len(described) < len(pairs):
        raise IcmBenchError(
            f"{file}: {len(described)} of {len(pairs)} pairs describe single images, which are left out with their "
            f"environment, and the others do not; put the two kinds into separate files."
        )
    return [replace(pair, image_id=by_name[pair.image_id]) if pair.image_id else pair for pair in pairs]


def read_text_pairs(path: Path | str, dataset: str | None = None) -> list[TextPair]:
    """Return the pairs of a JSONL file (UTF-8), in the order of its lines.

    Each line is one object with the keys `caption` and `rewrite` and, if known, `class_name` and `image_id` (absent or
    null otherwise). Blank lines are skipped. The optional key `dataset` names the data set of the pair. The other keys
    of `ORIGIN_KEYS` are for human readers.

    Args:
        path: path of the file.
        dataset: pairs of other data sets are left out; None (default) returns all pairs.

    Raises:
        IcmBenchError: the file cannot be read, holds no pair, or has an invalid line; the message names file and line.
    """
    pairs = []
    with opened(path, "The file of text pairs", "give a readable JSONL file") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_BYTES), b""), start=1):
            if len(line) == MAX_BYTES:
                raise IcmBenchError(f"{path}, line {number} has {MAX_BYTES} bytes or more, too many for a text pair.")
            if line := line.removeprefix(b"\xef\xbb\xbf").strip():  # byte order mark of some editors
                pairs.append(_pair(line, f"{path}, line {number}"))
    mine = [pair for pair, of in pairs if None in (of, dataset) or of == dataset]
    if pairs and not mine:
        raise IcmBenchError(f"{path}: all pairs are of other data sets than {dataset}; add pairs of {dataset}.")
    if not pairs:
        raise IcmBenchError(
            f"{path}, line 1: the file holds no text pair; write one JSON object with 'caption' and 'rewrite' a line."
        )
    return mine


def _pair(line: bytes, place: str) -> tuple[TextPair, str | None]:
    """Return the pair in a line, and the value of its key `dataset`; None without this key."""
    try:
        entry = json.loads(line.decode("utf-8"), object_pairs_hook=without_repeats)
    except UnicodeDecodeError as error:
        raise IcmBenchError(f"{place}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from error
    except RepeatedKeyError as error:
        raise IcmBenchError(f"{place}: the key {str(error)!r:.60} appears twice; keep one of the two.") from error
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise IcmBenchError(f"{place}: not JSON ({why}); write one JSON object on each line.") from error
    if not isinstance(entry, dict):
        kind = _JSON_TYPES.get(type(entry), "number")
        raise IcmBenchError(
            f'{place}: a JSON {kind} where an object is needed; write {{"caption": ..., "rewrite": ...}}.'
        )
    known = [*KEYS, *ORIGIN_KEYS]
    if unknown := [key for key in entry if key not in known]:
        raise IcmBenchError(f"{place}: unknown key {unknown[0]!r:.60}; {nearest(unknown[0], known)}")
    pair = TextPair(*(_text(entry, key, place) for key in KEYS))  # type: ignore[arg-type]  # required ones are text
    if pair.caption == pair.rewrite:
        raise IcmBenchError(f"{place}: caption and rewrite are equal, so nothing is intervened on; delete the line.")
    return pair, _text(entry, "dataset", place)


def _text(entry: dict[str, Any], key: str, place: str) -> str | None:
    """Return the text under a key, or None if an optional key is absent."""
    if key not in entry and key in REQUIRED_KEYS:
        raise IcmBenchError(f"{place}: the key '{key}' is missing; add it, with text as its value.")
    value = entry.get(key)
    if value is None and key not in REQUIRED_KEYS:
        return None
    if not isinstance(value, str):
        kind = _JSON_TYPES.get(type(value), "number")
        raise IcmBenchError(f"{place}: '{key}' is a JSON {kind}; it must be text, in quotation marks.")
    if not value.strip():
        part = "line" if key in REQUIRED_KEYS else "key"
        raise IcmBenchError(f"{place}: '{key}' is empty; fill it in, or delete the {part}.")
    if any("\ud800" <= character <= "\udfff" for character in value):  # half of a character cannot be encoded
        raise IcmBenchError(f"{place}: '{key}' holds half of a surrogate pair (\\ud800 to \\udfff); write it whole.")
    return value
