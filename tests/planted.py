"""Secrets that tests plant, and the search for them in whatever the tests left behind."""

import base64
import gzip
import io
import os
import re
from pathlib import Path

import pyarrow.parquet as pq

SECRET = "wJal/rXU@tn+FEMI"
IN_URI = "wJal%2FrXU%40tn%2BFEMI"
KEY = "AKIAFAKE1234"
VARIABLE, TOKEN = "ICM_BENCH_TESTS_TOKEN", "planted-a81f02c6d9b7"  # of the environment of all processes of the tests
# Parts of them are long, since base64 of a page has any four signs in a row by chance.
PLANTED = (SECRET, IN_URI, KEY, TOKEN, "wJal/rXU", "wJal%2F", "tn+FEMI")
GIVEN = "given"  # begins the name of a file in which a test itself wrote a secret
_MAX_BYTES = 2**20  # of a file: what is larger are images, weights and embeddings


def opened(content: bytes) -> list[bytes]:
    """Return a file and what is packed in it: the values of a table, the data of a page."""
    if content[:4] == b"PAR1":
        return [content, repr(pq.read_table(io.BytesIO(content)).to_pydict()).encode()]
    return [content, *(gzip.decompress(base64.b64decode(b)) for b in re.findall(rb">(H4sI[A-Za-z0-9+/=]+)<", content))]


def leaks(folder: Path, since: float = 0.0) -> list[str]:
    """Return the files below a folder, changed after a time, that hold a planted secret; embeddings are passed over."""
    found, planted = [], [secret.encode() for secret in PLANTED]
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("embeddings", "sums")]
        for file in (Path(place, name) for name in names if not name.startswith(GIVEN)):
            try:
                info = file.lstat()
                if not file.is_file() or file.is_symlink() or info.st_size > _MAX_BYTES or info.st_mtime < since:
                    continue
                content = file.read_bytes()
            except OSError:  # gone meanwhile, or closed by the test
                continue
            try:
                parts = opened(content)
            except Exception:  # damaged by a test: what it says as it is
                parts = [content]
            if any(secret in part for part in parts for secret in planted):
                found.append(str(file))
    return found
