"""Joining a cluster: fast checks of its address, token and versions, and monitoring of its head.

Without these checks Ray waits for minutes, or ends the process. A minute after the head died, Ray ends the process
without a message.
"""

import json
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import ray
from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled code, without types
from ray.exceptions import AuthenticationError

from benchmark.common.errors import EXIT_USER_ERROR, IcmBenchError
from benchmark.common.ray.dashboard import TOKEN_FILE, reach, token

CLIENT = "ray://"  # scheme of addresses of Ray Client, which has its own server
ANSWER = 4.0  # timeout for an answer in seconds; after 5 s Ray's core prints an error
LOOK_SECONDS, SAY_SECONDS = 3.0, 15.0  # seconds between two checks; seconds without an answer until the first message
# Environment variable and default value of Ray's own timeout for a lost head, and the share of this timeout after which
# this process ends.
_RAYS_VARIABLE, _RAYS_SECONDS, _SHARE = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0, 0.75


def check_cluster(address: str) -> None:
    """Raise IcmBenchError if a cluster does not answer, refuses the token, or has other versions of Ray or Python.

    `address` is a value of RAY_ADDRESS: `HOST:PORT`, `auto`, `local`, or `ray://HOST:PORT` for Ray Client.
    """
    if address == "local":
        return
    wanted = _bootstrap(address)
    remedy = "start a cluster, or let RAY_ADDRESS name the HOST:PORT of one"
    reach(f"http://{wanted}", f"RAY_ADDRESS={address}", remedy)
    if address.startswith(CLIENT):
        return
    by_token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    kept, place = token()
    if by_token and not kept:  # Ray's core would end the process
        raise IcmBenchError(f"RAY_AUTH_MODE asks for a token and there is none in {place}: copy {TOKEN_FILE} there.")
    cluster = _metadata(address, wanted, by_token)
    for what, here in {"Ray": ray.__version__, "Python": platform.python_version()}.items():
        there = cluster.get(f"{what.lower()}_version", here)
        if there != here:  # pickles are not compatible
            raise IcmBenchError(
                f"The cluster at RAY_ADDRESS={address} has {what} {there}, and this machine {here}: install "
                f"{what} {there} here, or {here} on all nodes."
            )


def _bootstrap(address: str) -> str:
    """Return host and port of an address."""
    if address.startswith(CLIENT):
        return address.removeprefix(CLIENT).partition("/")[0]
    try:
        found: str = "" if "://" in address else canonicalize_bootstrap_address(address) or ""
    except ConnectionError as error:  # raised for `auto` without a cluster
        raise IcmBenchError(f"No Ray cluster runs on this machine, and RAY_ADDRESS={address} asks for one.") from error
    except (ValueError, OSError):
        found = ""
    if not found.rpartition(":")[2].isdigit():
        named = address.rpartition("@")[2]  # without user and password
        raise IcmBenchError(
            f"RAY_ADDRESS={named} is no address of a cluster: give HOST:PORT, as `ray start` prints it."
        )
    return found


def _metadata(address: str, wanted: str, by_token: bool) -> dict[str, str]:
    """Return the cluster's metadata, requested in a thread: Ray's call hangs if the port belongs to another service."""
    found: list[dict[str, str] | Exception] = []
    request = threading.Thread(target=_ask, args=(wanted, found), daemon=True)
    request.start()
    request.join(ANSWER)
    answer = found[0] if found else None
    if isinstance(answer, dict):
        return answer
    if not isinstance(answer, AuthenticationError):
        raise IcmBenchError(
            f"No Ray cluster answers at RAY_ADDRESS={address}, although another service does: give HOST:PORT as "
            f"`ray start` prints it, by default with port 6379."
        ) from answer
    place = token()[1]
    what = f"refuses the token of {place}: put that of {TOKEN_FILE} in its place"
    if not by_token:
        what = f"asks for a token: set RAY_AUTH_MODE=token, with {TOKEN_FILE} in {place}"
    raise IcmBenchError(f"The cluster at RAY_ADDRESS={address} {what}.")


def _ask(wanted: str, found: list[dict[str, str] | Exception]) -> None:
    try:
        get = GcsClient(address=wanted).internal_kv_get
        found.append(json.loads(get(b"CLUSTER_METADATA", namespace=KV_NAMESPACE_CLUSTER, timeout=ANSWER) or b"{}"))
    except Exception as error:  # any error of Ray or of its RPC library
        found.append(error)


def watch_head() -> None:
    """Start a thread that monitors the head of the joined cluster.

    If the head does not answer for three quarters of Ray's own timeout, the process ends with one message and the exit
    code of user errors, since calls of Ray would hang.
    """
    address = ray.get_runtime_context().gcs_address
    limit = _SHARE * float(os.environ.get(_RAYS_VARIABLE) or _RAYS_SECONDS)
    end = partial(os._exit, EXIT_USER_ERROR)
    threading.Thread(target=_watch, args=(address, limit, ray.is_initialized, end), daemon=True).start()


def _watch(address: str, limit: float, joined: Callable[[], bool], end: Callable[[], None]) -> None:
    host, _, port = address.rpartition(":")
    answered, warned = time.monotonic(), False
    while joined():
        with suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
            answered, warned = time.monotonic(), False
        silent = time.monotonic() - answered
        if silent >= limit:
            print(
                f"icm-bench: the head of the Ray cluster at {address} has not answered for {silent:.0f} s, and the "
                f"cluster is assumed lost; finished work is kept: run the same command again on another cluster, with "
                f"the same store.",
                file=sys.stderr,
                flush=True,
            )
            end()
            break
        if silent >= SAY_SECONDS and not warned:
            warned = True
            line = f"the head of the Ray cluster at {address} does not answer; waiting for up to {limit:.0f} s"
            print(line, file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)
