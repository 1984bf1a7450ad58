"""Atomic writes of users' files, and protection of CSV text that a spreadsheet would run as a formula.

Such text gets a leading apostrophe when it is written, and loses it when it is read.
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

_FORMULA_START = rf"\s*[{re.escape(FORMULA_SIGNS)}]|[\t\r]"
_MARKED = re.compile(rf"'(?:{_FORMULA_START})")


def row_error(file: Path, row: int, problem: str) -> IcmBenchError:
    """Return the error about one row of a file; rows are numbered from 1."""
    return IcmBenchError(f"{file}, row {row}: {problem}")


def check_absent(place: str | Path, option: str, *names: str) -> None:
    """Refuse to overwrite existing files; commands call this before they start to work.

    Args:
        place: output file; with `names`, the folder or URI that holds them.
        option: command line option that names the place, for the message.
        *names: files in the folder. Default: `place` is a file itself.
    """
    storage = Storage(str(place) if names else str(Path(place).parent))
    for name in names or [Path(place).name]:
        if storage.exists(name):
            file = storage.path(name) if names else place
            raise IcmBenchError(f"{file} is there already and is not overwritten; give another {option}, or remove it.")


def write_new(file: Path, text: str, option: str) -> bool:
    """Write a file atomically unless it exists; return whether it was written. `option` names the file in errors."""
    temporary = file.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            try:
                os.link(temporary, file)  # unlike a rename, never replaces a file
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
                    raise
                with file.open("xb") as stream:  # this file system has no hard links
                    stream.write(temporary.read_bytes())
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise UnwritableError(f"{option} {file} cannot be written ({reason(error)}); give another path.") from error
    return True


@contextmanager
def atomic_file(file: Path, option: str = "--to") -> Iterator[Path]:
    """Yield a temporary path that becomes `file` if the block succeeds and is removed otherwise.

    `option` names the file in error messages.
    """
    place = file.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield place
            place.replace(file)
        finally:
            place.unlink(missing_ok=True)
    except OSError as error:
        raise IcmBenchError(f"{option} {file} cannot be written ({reason(error)}); give another path.") from error


def marked(table: pa.Table) -> pa.Table:
    """Return a table with an apostrophe before text that a spreadsheet would run as a formula."""
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            column = pc.replace_substring_regex(table[field.name], rf"^({_FORMULA_START})", r"'\1")
            table = table.set_column(i, field, column)
    return table


def unmarked(text: str) -> str:
    """Return text without the apostrophe that `marked` adds."""
    return text[1:] if _MARKED.match(text) else text
