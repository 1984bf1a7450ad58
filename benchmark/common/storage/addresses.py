"""Addresses of stores, images and services: none may hold a user, a password or a key."""

import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import unquote

from benchmark.common.errors import IcmBenchError
from benchmark.common.secrets import has_secret

_ADDRESS = re.compile(r"(?s)\s*([A-Za-z][A-Za-z0-9+.-]*)://(?:anonymous@)?([^/?#]*)([^?]*)(.*)")
_LIKE_A_USER = re.compile(r"[^/:]*:[^/]*@")  # and no folder's name
_WITHOUT_SLASHES = re.compile(r"(?i)\s*(?:s3a?|gs|gcs|https?|file|hdfs|abfss?):(?!//)")
_REMEDY = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS for gs://"


def check_address(text: str, place: str) -> None:
    """Refuse a text that is an address with credentials, or lacks the slashes by which these would be found.

    Other texts pass. The text itself is in no message: `place` is what holds it, as sentences begin.
    """
    if _WITHOUT_SLASHES.match(text):
        raise IcmBenchError(f"{place} is an address without '//'; write s3://BUCKET/PREFIX, without credentials.")
    if (match := _ADDRESS.match(text)) is None:
        return
    scheme, host, path, query = match[1].lower(), match[2], match[3], unquote(match[4])
    port = re.search(r":(?![^]]*\])(.*)", host)
    odd = port and (scheme in ("s3", "gs", "gcs") or not re.fullmatch(r"\d{0,5}", port[1]) or "@" in path)
    if "@" in host or odd or "@" in query or has_secret(query):
        raise IcmBenchError(f"{place} is an address with a user, a password or a key in it; leave them out: {_REMEDY}.")


def check_place(uri: str) -> None:
    """Refuse the address of a storage that has credentials, or has lost what stands before them."""
    check_address(f"s3://{uri}" if _LIKE_A_USER.match(uri) else uri, "The place of a store, of images or of a report")


def check_words(words: Sequence[str]) -> None:
    """Refuse addresses with credentials among the words of a command line, before anything quotes them."""
    for before, word in pairwise(("", *words)):
        name, equals, value = word.partition("=")
        named = equals and "://" not in name
        place = f"{before} {name}" if named and before == "--set" else name if named else before
        check_address(value if named else word, place if place.startswith("-") else "An argument")
