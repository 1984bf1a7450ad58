"""Files that a command writes where a person asked for them: whole or not at all, overwriting nothing unasked.

In CSV, text that a spreadsheet would run is marked by an apostrophe when it is written, and unmarked when it is read.
"""

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmark.common.errors import IcmBenchError, UnwritableError
from benchmark.common.storage.files import Storage, reason
from benchmark.common.terminal.escaping import FORMULA_SIGNS

_BEGINS = rf"\s*[{re.escape(FORMULA_SIGNS)}]|[\t\r]"  # of a formula
_MARKED = re.compile(rf"'(?:{_BEGINS})")


def check_absent(place: str | Path, option: str, *names: str) -> None:
    """Make sure that a command will overwrite nothing; called before it begins to work.

    Args:
        place: file, or folder or URI of `names`, that it is going to write.
        option: of the command line that names the place, for the message.
        *names: of the files in the folder. Default: `place` is a file itself.
    """
    storage = Storage(str(place) if names else str(Path(place).parent))
    for name in names or [Path(place).name]:
        if storage.exists(name):
            raise IcmBenchError(
                f"{storage.path(name) if names else place} is there already and is not overwritten; give another "
                f"{option}, or remove it."
            )


def write_new(file: Path, text: str, option: str) -> bool:
    """Write a file as a whole, named by an option; return whether it was written: one that is there stays as it is."""
    temporary = file.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            try:
                os.link(temporary, file)  # which, unlike a rename, never replaces what is there
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                with file.open("xb") as stream:  # where there are no hard links
                    stream.write(temporary.read_bytes())
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise UnwritableError(f"{option} {file} cannot be written ({reason(error)}); give another place.") from error
    return True


@contextmanager
def whole(file: Path, option: str = "--to") -> Iterator[Path]:
    """Give a place beside a file, named by an option, that takes its name when the block ends well, else is gone."""
    place = file.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield place
            place.replace(file)
        finally:
            place.unlink(missing_ok=True)
    except OSError as error:
        raise IcmBenchError(f"{option} {file} cannot be written ({reason(error)}); give another place.") from error


def marked(table: pa.Table) -> pa.Table:
    """Return a table with an apostrophe before text that a spreadsheet would run."""
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = pc.replace_substring_regex(table[field.name], rf"^({_BEGINS})", r"'\1")
            table = table.set_column(i, field, column)
    return table


def unmarked(text: str) -> str:
    """Return text without the apostrophe of `marked`."""
    return text[1:] if _MARKED.match(text) else text
