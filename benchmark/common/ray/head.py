"""The head of a joined cluster is watched: where it dies, Ray ends the driver after a minute, without a word."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable

import ray

from benchmark.common.errors import EXIT_USER_ERROR

LOOK_SECONDS, SAY_SECONDS = 3.0, 15.0  # between two looks; without an answer, after which a line is said
# What Ray itself waits for a head that comes back, by this variable, and the share of it after which we end first.
_VARIABLE, _RAYS_SECONDS, _SHARE = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0, 0.75


def watch_head() -> None:
    """Begin to watch the head of the cluster that this process has joined, for as long as it is joined.

    A head that does not answer is waited for; after three quarters of the time that Ray waits, the process is ended
    with one sentence and the exit code of refused input: no call of Ray's could end any more.
    """
    address = ray.get_runtime_context().gcs_address
    limit = _SHARE * float(os.environ.get(_VARIABLE) or _RAYS_SECONDS)
    threading.Thread(target=_watch, args=(address, limit, ray.is_initialized, _end), daemon=True).start()


def _watch(address: str, limit: float, joined: Callable[[], bool], end: Callable[[], None]) -> None:
    answered, said = time.monotonic(), False
    while joined():
        if _answers(address):
            answered, said = time.monotonic(), False
        silent = time.monotonic() - answered
        if silent >= limit:
            _say(
                f"icm-bench: the head of the Ray cluster at {address} has not answered for {silent:.0f} s, and the "
                f"cluster is taken for lost; nothing that is written is lost: run the same command again on another "
                f"cluster, with the same store."
            )
            end()
            break
        if silent >= SAY_SECONDS and not said:
            said = True
            _say(f"the head of the Ray cluster at {address} does not answer; it is waited for up to {limit:.0f} s")
        time.sleep(LOOK_SECONDS)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
    except OSError:
        return False
    return True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end() -> None:
    os._exit(EXIT_USER_ERROR)
