"""Which files of a store are its own, by their names. Whatever else lies there, put by whoever, is left alone."""

import re

from benchmark.common.storage.files import Storage

_HASH = r"[\w-]+"  # of hexadecimal digits, mostly; names that a person or a desktop makes have dots and spaces
_OWN = re.compile(
    "|".join(
        [
            rf"embeddings/{_HASH}/(about\.json|speed\.json|part-\d+\.parquet|rejected-\d+\.json)",
            rf"moments/{_HASH}/{_HASH}/(images|{_HASH})\.safetensors",
            rf"(texts|clusters|rows|tested|images|index)/{_HASH}\.parquet",
            rf"failed/{_HASH}\.json",
            rf"details/{_HASH}(\.parquet|/map\.parquet|/decodability\.json)",
            rf"runs/{_HASH}/{_HASH}(/{_HASH})?\.json",
            rf"imported/[^/]+/([^/]+-)?{_HASH}\.(json|parquet)",
            rf"made/\d{{8}}T\d{{6}}Z-{_HASH}(\.open)?\.parquet",
            r"costs/measured-\d+\.json",
            r"reports/.*",
        ]
    )
)


def is_own(name: str) -> bool:
    """Return whether a file, by its name inside a store, is one of the store's own."""
    return _OWN.fullmatch(name) is not None


def foreign(storage: Storage) -> list[str]:
    """Return the files of a store that are not its own, sorted; what a writer has not finished is none of them."""
    names = (name for name, _, _ in storage.details(""))
    return sorted(name for name in names if not (is_own(name) or name.endswith(".tmp") or name.startswith(".")))
