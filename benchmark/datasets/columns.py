"""Recipe specs for tables of images: their columns, lookups of names, and the lines to read.

Docstrings of specs are copied into docs/recipe.md: run `make docs` after a change. A new field of `ColumnsSpec` needs
its usual column names in `USUAL_COLUMNS` (readers/base.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from benchmark.common.spec import Spec

AUTO, FOLDER, TABLE, IMPORTED = "auto", "folder", "table", "imported"  # layouts
LookedUp = Literal["class_name", "environment"]


class ColumnsSpec(Spec):
    """Names of columns of Parquet files or tables, or of fields in a WebDataset's .json members.

    In the layout `table` a text may contain columns in braces: `images/{site}/{id}.png`. `{date:.4}` is the first four
    letters of `date`, and `{file:parent}` is the folder of a path. `{row}` is the number of the line, counted from 0,
    unless a column has this name.

    Fields:
        image: column of the encoded image, as bytes or as a struct of `bytes` and `path`. Default: the column of that
            type.
        environment: column of the environment. Default: `environment`, `domain` or `env`, else the folder of the file.
        class_name: column of the class. Default: `class_name`, `label`, `class` or `category`. A WebDataset's .cls
            member has priority.
        group: column of the group; images of a group stay on one side of a split. Default: `group`, if it exists.
        path: in a table, column of the image's path below the root. Default: `path`, `file`, `file_name`, `filename` or
            `image_path`.
        split: in a table, the column that `splits` filters by. Default: `split`.
    """

    image: str | None = None
    environment: str | None = None
    class_name: str | None = None
    group: str | None = None
    path: str | None = None
    split: str | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields; `path` and `split` only if given, so that hashes of older recipes do not change."""
        return {key: value for key, value in dump(self).items() if key not in ("path", "split") or value is not None}


class LookupSpec(Spec):
    """Names for the values of a column, from a second table or from a mapping. Give `table` or `values`.

    Fields:
        table: a CSV or Parquet file with one line per value; its place is given as for `datasets.table`.
        key: column of `table` with the values.
        name: column of `table` with the names.
        values: value -> name.
        other: name for values that have no name. Default: such a value is an error.
    """

    table: str | None = None
    key: str | None = None
    name: str | None = None
    values: Mapping[str, str] | None = None
    other: str | None = None

    @field_validator("values", mode="before")
    @classmethod
    def _numbers_are_text(cls, values: Any) -> Any:
        return {_text(value): name for value, name in values.items()} if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _one_of_both(self) -> "LookupSpec":
        of_table = (self.table, self.key, self.name)
        if (None in of_table) == (self.values is None) or (self.values is not None and of_table != (None,) * 3):
            raise ValueError("give table, key and name of a second table, or values, and not both.")
        return self


@dataclass(frozen=True)
class Listing:
    """The file and lines that list the images in the layout `table`.

    Attributes:
        table: the file, below the root or with its own path or URI; None (default) for the only table in the root.
        splits: values of the split column whose lines are read; None (default) for all lines.
        lookup: field of `ColumnsSpec` -> names for its values; None (default) for none.
    """

    table: str | None = None
    splits: tuple[str, ...] | None = None
    lookup: Mapping[LookedUp, LookupSpec] | None = None


def _text(value: Any) -> Any:
    """Return an integer as text, other values unchanged: `0` is a number in YAML, but text in CSV."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_texts(values: Any) -> Any:
    """Return one value, or a list of values, as a tuple of texts, for recipe fields that accept both."""
    return tuple(map(_text, values)) if isinstance(values, list | tuple) else (_text(values),)
