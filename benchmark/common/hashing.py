"""Hashes of plain data."""

import hashlib
import json
from typing import Any


def canonical_hash(content: Any) -> str:
    """Return the SHA-256 (hex) of `content` as JSON with sorted keys and no spaces."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
