"""Pairs of texts read from a JSONL file."""

import json
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError, nearest
from benchmark.common.plain import MAX_BYTES, RepeatedKeyError, opened, without_repeats
from benchmark.method.interventions.text import KEYS, REQUIRED_KEYS, TextPair

# What `docs/examples/captions.py` says beside a pair: where it comes from.
ORIGIN_KEYS = ("dataset", "captioner", "model", "prompt", "seed")


def read_text_pairs(path: Path | str, dataset: str | None = None) -> list[TextPair]:
    """Return the pairs of a file in JSONL (UTF-8), in its order.

    Each line is one object with the keys `caption` and `rewrite` and, if known, `class_name` and `image_id` (absent or
    null otherwise). Blank lines are skipped. A `dataset` says of which data set the pair is; what else may stand beside
    a pair (`ORIGIN_KEYS`) is for people.

    Args:
        path: place of the file.
        dataset: pairs of another data set are left out; None (default) leaves none out.

    Raises:
        IcmBenchError: the file cannot be read, holds no pair, or a line is not such an object; names file and line.
    """
    pairs = []
    with opened(path, "The file of text pairs", "give a JSONL file that exists and may be read") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_BYTES), b""), start=1):
            if len(line) == MAX_BYTES:
                raise IcmBenchError(f"{path}, line {number} has {MAX_BYTES} bytes or more, and is no pair of texts.")
            if line := line.removeprefix(b"\xef\xbb\xbf").strip():  # some editors begin with a mark
                pairs.append(_pair(line, f"{path}, line {number}"))
    mine = [pair for pair, of in pairs if None in (of, dataset) or of == dataset]
    if pairs and not mine:
        raise IcmBenchError(f"{path}: all pairs are of other data sets than {dataset}; add some of it.")
    if not pairs:
        raise IcmBenchError(
            f"{path}, line 1: the file holds no text pair; write one JSON object with 'caption' and 'rewrite' a line."
        )
    return mine


def _pair(line: bytes, place: str) -> tuple[TextPair, str | None]:
    """Return the pair of a line, and the data set that it is of, or None if it does not say."""
    try:
        entry = json.loads(line.decode("utf-8"), object_pairs_hook=without_repeats)
    except UnicodeDecodeError as error:
        raise IcmBenchError(f"{place}: byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from error
    except RepeatedKeyError as error:
        raise IcmBenchError(f"{place}: the key {str(error)!r:.60} stands twice; keep one of the two.") from error
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise IcmBenchError(f"{place}: not JSON ({why}); write one JSON object on each line.") from error
    if not isinstance(entry, dict):
        raise IcmBenchError(
            f'{place}: a JSON {_kind(entry)} where an object is needed; write {{"caption": ..., "rewrite": ...}}.'
        )
    known = [*KEYS, *ORIGIN_KEYS]
    if unknown := [key for key in entry if key not in known]:
        raise IcmBenchError(f"{place}: unknown key {unknown[0]!r:.60}; {nearest(unknown[0], known)}")
    pair = TextPair(*(_text(entry, key, place) for key in KEYS))  # type: ignore[arg-type]  # required ones are text
    if pair.caption == pair.rewrite:
        raise IcmBenchError(f"{place}: caption and rewrite are equal, so nothing is intervened on; delete the line.")
    return pair, _text(entry, "dataset", place)


def _text(entry: dict[str, Any], key: str, place: str) -> str | None:
    """Return the text under `key`, or None if it is absent and may be."""
    if key not in entry and key in REQUIRED_KEYS:
        raise IcmBenchError(f"{place}: the key '{key}' is missing; add it, with text as its value.")
    value = entry.get(key)
    if value is None and key not in REQUIRED_KEYS:
        return None
    if not isinstance(value, str):
        raise IcmBenchError(f"{place}: '{key}' is a JSON {_kind(value)}; it must be text, in quotation marks.")
    if not value.strip():
        raise IcmBenchError(f"{place}: '{key}' is empty; fill it in, or delete the {_part(key)}.")
    if any("\ud800" <= character <= "\udfff" for character in value):  # half of a character: nothing can encode it
        raise IcmBenchError(f"{place}: '{key}' holds half of a surrogate pair (\\ud800 to \\udfff); write it whole.")
    return value


def _part(key: str) -> str:
    return "line" if key in REQUIRED_KEYS else "key"


def _kind(value: Any) -> str:
    """Return what JSON calls the type of `value`."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
