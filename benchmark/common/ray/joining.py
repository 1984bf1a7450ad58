"""Joining a cluster: whether that can be done is known within seconds, and its head is watched from then on.

By itself Ray waits for minutes or ends the process, and after the death of the head ends it after one, without a word.
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
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # of compiled code
from ray.exceptions import AuthenticationError

from benchmark.common.errors import EXIT_USER_ERROR, IcmBenchError
from benchmark.common.ray.dashboard import TOKEN_FILE, reach, token

CLIENT = "ray://"  # scheme of Ray's client, which has a server of its own
ANSWER = 4.0  # seconds for an answer: after five, Ray's core tells the terminal that there is none
LOOK_SECONDS, SAY_SECONDS = 3.0, 15.0  # between two looks; without an answer, after which a line is said
# What Ray itself waits for a head that comes back, by this variable, and the share of it after which we end first.
_RAYS_VARIABLE, _RAYS_SECONDS, _SHARE = "RAY_gcs_rpc_server_reconnect_timeout_s", 60.0, 0.75


def check_cluster(address: str) -> None:
    """See within seconds that a cluster answers, takes this machine's token, and has its versions of Ray and Python.

    The address is as RAY_ADDRESS has it: `HOST:PORT`, `auto`, `local`, or that of Ray's client.
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
    if by_token and not kept:  # with which Ray's core would end the process
        raise IcmBenchError(f"RAY_AUTH_MODE asks for a token and there is none in {place}: copy {TOKEN_FILE} there.")
    cluster = _metadata(address, wanted, by_token)
    for what, here, remedy in (
        ("Ray", ray.__version__, "install ray=={} here"),
        ("Python", platform.python_version(), "use Python {} here"),
    ):
        there = cluster.get(f"{what.lower()}_version", here)
        if there != here:  # its pickles are not those of this process
            raise IcmBenchError(
                f"The cluster at RAY_ADDRESS={address} has {what} {there}, and this machine {here}: "
                f"{remedy.format(there)}, or the other one on all nodes."
            )


def _bootstrap(address: str) -> str:
    """Return host and port of an address."""
    if address.startswith(CLIENT):
        return address.removeprefix(CLIENT).partition("/")[0]
    try:
        found: str = "" if "://" in address else canonicalize_bootstrap_address(address) or ""
    except ConnectionError as error:  # of `auto`
        raise IcmBenchError(f"No Ray cluster runs on this machine, and RAY_ADDRESS={address} asks for one.") from error
    except (ValueError, OSError):
        found = ""
    if not found.rpartition(":")[2].isdigit():
        named = address.rpartition("@")[2]  # without user and password
        raise IcmBenchError(
            f"RAY_ADDRESS={named} is no address of a cluster: give HOST:PORT as `ray start` names it, by default with "
            f"port 6379."
        )
    return found


def _metadata(address: str, wanted: str, by_token: bool) -> dict[str, str]:
    """Return what a cluster says of itself. A thread asks, since Ray knows no end where something else listens."""
    found: list[dict[str, str] | Exception] = []  # or why it says nothing
    asking = threading.Thread(target=_ask, args=(wanted, found), daemon=True)
    asking.start()
    asking.join(ANSWER)
    answer = found[0] if found else None
    if isinstance(answer, dict):
        return answer
    if not isinstance(answer, AuthenticationError):
        raise IcmBenchError(
            f"No Ray cluster answers at RAY_ADDRESS={address}, although something listens there: give HOST:PORT as "
            f"`ray start` names it, by default with port 6379."
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
    except Exception as error:  # of Ray's, and of its RPCs
        found.append(error)


def watch_head() -> None:
    """Begin to watch the head of the cluster that this process has joined, for as long as it is joined.

    A head that does not answer is waited for; after three quarters of the time that Ray waits, the process is ended
    with one sentence and the exit code of refused input: no call of Ray's could end any more.
    """
    address = ray.get_runtime_context().gcs_address
    limit = _SHARE * float(os.environ.get(_RAYS_VARIABLE) or _RAYS_SECONDS)
    end = partial(os._exit, EXIT_USER_ERROR)
    threading.Thread(target=_watch, args=(address, limit, ray.is_initialized, end), daemon=True).start()


def _watch(address: str, limit: float, joined: Callable[[], bool], end: Callable[[], None]) -> None:
    host, _, port = address.rpartition(":")
    answered, said = time.monotonic(), False
    while joined():
        with suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
            answered, said = time.monotonic(), False
        silent = time.monotonic() - answered
        if silent >= limit:
            print(
                f"icm-bench: the head of the Ray cluster at {address} has not answered for {silent:.0f} s, and the "
                f"cluster is taken for lost; nothing that is written is lost: run the same command again on another "
                f"cluster, with the same store.",
                file=sys.stderr,
                flush=True,
            )
            end()
            break
        if silent >= SAY_SECONDS and not said:
            said = True
            line = f"the head of the Ray cluster at {address} does not answer; it is waited for up to {limit:.0f} s"
            print(line, file=sys.stderr, flush=True)
        time.sleep(LOOK_SECONDS)
