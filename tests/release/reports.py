"""Two reports compared: equal but for times, versions and places."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.planted import opened

DIGESTS = "made.json"  # digests of the other files
_VERSION = re.compile(rb"\b\d+\.\d+\.\d+[\w.]*\+[0-9a-f]{12}\b")  # of the package and its code
_TIME = re.compile(rb"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?")


def contents(folder: Path, places: Mapping[str, Path]) -> dict[str, list[bytes]]:
    """Return the files of a report by name, unpacked, without times and versions; `places` have their names."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != DIGESTS:
            parts = opened(file.read_bytes())
            if len(parts) > 1:  # a page: what is packed stands in the other parts
                parts[0] = re.sub(rb">H4sI[A-Za-z0-9+/=]+<", b"><", parts[0])
            found[file.relative_to(folder).as_posix()] = [_plain(part, places) for part in parts]
    return found


def _plain(part: bytes, places: Mapping[str, Path]) -> bytes:
    for name, place in places.items():
        part = part.replace(str(place).encode(), name.encode())
    return _TIME.sub(b"TIME", _VERSION.sub(b"VERSION", part))


def differences(one: Mapping[str, list[bytes]], other: Mapping[str, list[bytes]]) -> list[str]:
    """Return the names of the files that differ, or that only one report has."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
