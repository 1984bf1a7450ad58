"""Plain data (dicts, lists, texts, numbers): hashes, and strict readers of untrusted YAML and JSON with limits."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.places import why_not_a_file

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 2**20  # maximum size of a YAML document; the longest recipe of the project has 1 % of it
# Plain words that YAML 1.1 reads as truth values, numbers or dates, and that are texts here.
_OF_YAML_1_1 = re.compile(r"(?i)yes|no|on|off|=|[-+]?0[\d_b]+|[-+]?[\d_]+(:[0-5]?\d)+(\.[\d_]*)?|\d{4}-\d\d?-\d\d?.*")
MAX_DEPTH = 40  # maximum nesting of lists and mappings
MAX_DIGITS = 1000  # maximum digits of a whole number; Python refuses to convert thousands
MAX_VALUES = 100_000  # maximum values of a document, with aliases (`*name`) expanded


def canonical_hash(content: Any) -> str:
    """Return the SHA-256 (hex) of `content` as JSON with sorted keys and no spaces."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def from_yaml(content: bytes | str, place: str) -> Any:
    """Return the content of a YAML document. Words that YAML 1.1 converts in a surprising way stay texts.

    Only `true` and `false` are booleans; `on`, `yes`, `no`, dates, `1:30` and `010` (8 in YAML 1.1) are texts.

    Args:
        content: the document, in UTF-8.
        place: name of the document at the start of messages, such as "The recipe r.yaml".

    Raises:
        IcmBenchError: the document is not valid YAML, too large, nested too deeply, or has a repeated key or a value
            that does not fit its tag.
    """
    import yaml

    if len(content) > MAX_BYTES:
        raise IcmBenchError(f"{place} has more than {MAX_BYTES} bytes; keep only settings in it.")
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):  # checks the depth before `compose`, which is recursive
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH and event.start_mark:
                line = event.start_mark.line + 1
                raise IcmBenchError(f"{place}, line {line} is nested more than {MAX_DEPTH} levels deep; flatten it.")
        if (node := yaml.compose(text, Loader=yaml.SafeLoader)) is None:
            return None
        _check_node(node, place, {})
        return yaml.SafeLoader("").construct_document(node)
    except UnicodeDecodeError as error:
        raise IcmBenchError(f"{place} cannot be read: not UTF-8 text.") from error
    except yaml.reader.ReaderError as error:
        line, sign = text.count("\n", 0, error.position) + 1, ord(text[error.position])
        raise IcmBenchError(f"{place}, line {line} holds the control character U+{sign:04X}; remove it.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or "not YAML").split())
        raise IcmBenchError(f"{place}{where} is not valid YAML: {problem}.") from error
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        # Raised for a wrong tag (`!!int x`) or an impossible date (2001-99-99).
        why = f"{' '.join(str(error).split()):.200}"
        raise IcmBenchError(f"{place} has a value that does not fit its type ({why}); put it in quotes.") from error


def from_json(content: bytes | str, place: str, remedy: str = "") -> Any:
    """Return the content of a JSON document in UTF-8; the caller must limit its size.

    Args:
        content: the document.
        place: name of the document, see `from_yaml`.
        remedy: end of messages about a document that is not JSON; with it, NaN, infinity and texts that are no Unicode
            are refused too.

    Raises:
        IcmBenchError: the document is not JSON, or has a key twice.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        found = json.loads(text, object_pairs_hook=without_repeats)
        if remedy:
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        return found
    except RepeatedKeyError as error:
        raise IcmBenchError(f"{place} has the key {str(error)!r:.60} twice; keep one of the two.") from error
    except (RecursionError, ValueError) as error:  # ValueError: not UTF-8 either
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise IcmBenchError(f"{place} is not valid JSON ({why}){remedy and f'; {remedy}'}.") from error


class RepeatedKeyError(Exception):
    """A JSON object has a key twice; readers of JSON disagree on which of the two values counts."""


def without_repeats(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return keys and values as a dict, for `json.loads`; raise RepeatedKeyError if a key comes twice."""
    content = dict(items)
    if len(content) < len(items):
        keys = [key for key, _ in items]
        raise RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return content


def opened(path: str | Path, what: str, remedy: str) -> BinaryIO:
    """Return a file opened for reading; raise IcmBenchError for folders, pipes and devices.

    The message starts with `what` ("The recipe") and ends with `remedy`.
    """
    try:
        if not (reason := why_not_a_file(Path(path))):
            return Path(path).open("rb")
    except (OSError, ValueError) as error:  # ValueError: not a file name
        reason = getattr(error, "strerror", None) or "no file name"
    raise IcmBenchError(f"{what} {path} cannot be read: {reason}; {remedy}.")


def _check_node(node: "yaml.Node", place: str, sizes: dict[int, int]) -> int:
    """Return the number of values in a node, with aliases expanded; refuse too many values, and repeated keys.

    `sizes` maps the `id` of a node to its number of values; the number is 0 while the node is being counted.
    """
    import yaml

    if (known := sizes.get(id(node))) is not None:
        if known == 0:
            raise IcmBenchError(f"{place}, line {node.start_mark.line + 1}: a value contains itself; write it out.")
        return known
    sizes[id(node)], total = 0, 1
    if isinstance(node, yaml.ScalarNode) and node.style is None and _OF_YAML_1_1.fullmatch(node.value):
        node.tag = yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MAX_DIGITS:
        line, digits = node.start_mark.line + 1, len(node.value)
        raise IcmBenchError(f"{place}, line {line}: a number of {digits} digits; give a smaller one.")
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        line, name = key.start_mark.line + 1, (key.tag, str(key.value))
        if name in lines:
            raise IcmBenchError(
                f"{place}, line {line}: the key {str(key.value)!r:.60} repeats line {lines[name]}, and one of the two "
                f"would be lost; keep one."
            )
        lines[name] = line
    if isinstance(node, yaml.CollectionNode):
        for part in node.value:
            for one in part if isinstance(part, tuple) else (part,):
                total += _check_node(one, place, sizes)
    if total > MAX_VALUES:
        line = node.start_mark.line + 1
        raise IcmBenchError(f"{place}, line {line} expands to over {MAX_VALUES} values; write them without aliases.")
    sizes[id(node)] = total
    return total
