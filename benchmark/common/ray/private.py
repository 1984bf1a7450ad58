"""A Ray of this machine alone: on the loopback, with a token that nobody else can read.

By itself Ray listens on all interfaces of a Linux machine, and writes its token so that every user of it can read it.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmark.common.ray.dashboard import token, token_file

MODE = "RAY_AUTH_MODE"


@contextmanager
def private() -> Iterator[None]:
    """Let a Ray that the block starts ask for a token, which is made where there is none, and listen on the loopback.

    A user who has set RAY_AUTH_MODE to something else gets that.
    """
    from ray._private import ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]  # of compiled code

    os.environ.setdefault(MODE, "token")
    if os.environ[MODE].lower() == "token":
        _keep_token()
    Config.initialize("")  # which has read the variables already
    several, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False  # as on macOS and Windows
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several


def _write_first(file: Path, made: str) -> None:
    """Write a token, unless another command has written one meanwhile: all processes of a Ray must have the same."""
    own = file.with_name(f".{secrets.token_hex(8)}.tmp")
    with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(made)
    try:
        if file.exists() and not file.read_text().strip():
            own.replace(file)
        else:
            os.link(own, file)
    except FileExistsError:
        pass
    finally:
        own.unlink(missing_ok=True)


def _keep_token() -> None:
    """See that there is a token, and that its file is for its owner alone."""
    file = token_file()
    if not token()[0]:
        made = secrets.token_hex(32)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_first(file, made)
        except OSError:  # no home that can be written to: the processes of this Ray have it from the environment
            os.environ["RAY_AUTH_TOKEN"] = made
            return
    with suppress(OSError):  # there is none where the environment has the token
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)
