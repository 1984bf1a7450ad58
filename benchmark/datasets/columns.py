"""What a recipe says of how a data set lies: its layout, the columns of a table, and the lines that are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from benchmark.common.spec import Spec

AUTO, FOLDER, TABLE, IMPORTED = "auto", "folder", "table", "imported"  # layouts
LookedUp = Literal["class_name", "environment"]


class ColumnsSpec(Spec):
    """Which columns of Parquet files or of a table, or fields of a WebDataset's .json members, say what of an image.

    In the layout `table` it may also be a text with columns in braces: `images/{site}/{id}.png`. `{date:.4}` are the
    first four letters of `date`, `{file:parent}` is the folder of a path, and `{row}` is the number of the line from 0
    where no column is called so.

    Fields:
        image: the encoded image, by itself or as a struct of `bytes` and `path`; default: the column of that kind.
        environment: default: `environment`, `domain` or `env`, else the folder in which the file lies.
        class_name: default: `class_name`, `label`, `class` or `category`; a WebDataset's .cls member comes first.
        group: which images belong together, hence on one side of a split; default: `group`, if there is one.
        path: of a table: where an image lies, from the root on; default: `path`, `file`, `file_name`, `filename` or
            `image_path`.
        split: of a table: by which `splits` says the lines that are read; default: `split`.
    """

    image: str | None = None
    environment: str | None = None
    class_name: str | None = None
    group: str | None = None
    path: str | None = None
    split: str | None = None

    @model_serializer(mode="wrap")
    def _as_written(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return the fields, those of tables only where they are given: recipes without them stay what they were."""
        return {key: said for key, said in dump(self).items() if key not in ("path", "split") or said is not None}


class LookupSpec(Spec):
    """What the values of a column are called: by a second table, or one by one. Give `table`, or `values`.

    Fields:
        table: the CSV or Parquet file that says it, a line for each value; it is looked for as `datasets.table` is.
        key: its column of values.
        name: its column of names.
        values: value -> name.
        other: the name of a value that has none. Default: such a value is an error.
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
    """Which lines of which file list the images of the layout `table`.

    Attributes:
        table: the file: below the root, or a path or URI of its own; None for the one that lies in the root itself.
        splits: values of the split column whose lines are read; None for all lines.
        lookup: field of `ColumnsSpec` -> what its values are called.
    """

    table: str | None = None
    splits: tuple[str, ...] | None = None
    lookup: Mapping[LookedUp, LookupSpec] | None = None


def _text(value: Any) -> Any:
    """Return a whole number as text, and anything else as it is: in YAML `0` is a number, in CSV it is text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_texts(values: Any) -> Any:
    """Return a value or several as texts, for a field of a recipe that takes either."""
    return tuple(map(_text, values)) if isinstance(values, list | tuple) else (_text(values),)
