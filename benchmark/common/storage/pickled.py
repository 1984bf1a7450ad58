"""Python objects in Arrow data, as Ray Data writes them: bytes, which this process never unpickles.

Ray Data lets Arrow unpickle them wherever its type stands in a schema, as that of somebody's Parquet file. Here it
stands for bytes, before Ray Data is imported and after: what it passes on between its processes are tables without any.
"""

from contextlib import suppress

import pyarrow as pa

_NAME = "ray.data.arrow_pickled_object"


class _Stored(pa.ExtensionType):
    """What stands for the type of Python objects: the type in which they are stored."""

    def __init__(self, stored: pa.DataType) -> None:
        super().__init__(stored, _NAME)

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "_Stored":
        return cls(storage_type)


def keep_pickled() -> None:
    """Let Arrow read Python objects as bytes; Ray Data keeps the type that it finds."""
    with suppress(pa.ArrowKeyError):  # it was not imported before
        pa.unregister_extension_type(_NAME)
    pa.register_extension_type(_Stored(pa.large_binary()))
