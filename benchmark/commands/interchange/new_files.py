"""Files that a command makes for a person: nothing that is there already is overwritten unasked."""

import errno
import os
import uuid
from pathlib import Path

from benchmark.common.errors import IcmBenchError, UnwritableError
from benchmark.common.storage.files import Storage, reason


def check_absent(place: str | Path, option: str, *names: str) -> None:
    """Make sure that a command will overwrite nothing; called before it begins to work.

    Args:
        place: file, or folder or URI of `names`, that it is going to write.
        option: of the command line that names the place, for the message.
        *names: of the files in the folder. Default: `place` is a file itself.

    Raises:
        IcmBenchError: something is there.
    """
    storage = Storage(str(place) if names else str(Path(place).parent))
    for name in names or [Path(place).name]:
        if storage.exists(name):
            raise IcmBenchError(
                f"{storage.path(name) if names else place} is there already and is not overwritten; give another "
                f"{option}, or remove it."
            )


def write_new(file: Path, text: str, option: str) -> bool:
    """Write a file as a whole; return whether it was written: one that is there stays as it is.

    Args:
        file: where to; its folder is made if need be.
        text: its content.
        option: of the command line that names it, for the message.

    Raises:
        UnwritableError: it cannot be written.
    """
    temporary = file.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            _named(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise UnwritableError(f"{option} {file} cannot be written ({reason(error)}); give another place.") from error
    return True


def _named(temporary: Path, file: Path) -> None:
    """Give a file its name, which nothing has yet. Raises FileExistsError where something has."""
    try:
        os.link(temporary, file)  # which, unlike a rename, never replaces what is there
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        with file.open("xb") as stream:  # where there are no hard links
            stream.write(temporary.read_bytes())
