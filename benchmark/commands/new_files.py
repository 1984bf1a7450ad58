"""Files that a command makes for a person: nothing that is there already is overwritten unasked."""

import os
import uuid
from pathlib import Path

from benchmark.common.errors import IcmBenchError, UnwritableError
from benchmark.common.storage import reason


def check_absent(place: Path, option: str, *names: str, overwrite: bool = False) -> None:
    """Make sure that a command will overwrite nothing; called before it begins to work.

    Args:
        place: file, or folder of `names`, that it is going to write.
        option: of the command line, or its argument, that names the place, for the message.
        *names: of the files in the folder. Default: `place` is a file itself.
        overwrite: whether that was asked for. Default False.

    Raises:
        IcmBenchError: something is there.
    """
    if overwrite:
        return
    for file in [place / name for name in names] or [place]:
        if file.exists() or file.is_symlink():
            raise IcmBenchError(f"{file} is there already and is not overwritten; give another {option}, or remove it.")


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
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, file)  # which, unlike a rename, never replaces what is there
    except FileExistsError:
        return False
    except OSError as error:
        raise UnwritableError(f"{option} {file} cannot be written ({reason(error)}); give another place.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return True
