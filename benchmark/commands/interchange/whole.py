"""Files that a command writes where a person asked for them: whole, or not at all."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import reason


@contextmanager
def whole(file: Path, option: str = "--to") -> Iterator[Path]:
    """Give a place beside a file that takes its name when the block ends well, and is gone otherwise.

    Args:
        file: what is written or replaced.
        option: of the command line that names it, for the message.

    Raises:
        IcmBenchError: it cannot be written.
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
        raise IcmBenchError(f"{option} {file} cannot be written ({reason(error)}); give another place.") from error
