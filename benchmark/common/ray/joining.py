"""Whether a cluster can be joined, known within seconds: by itself Ray waits for minutes, or ends the process."""

import json
import os
import platform
import threading

from benchmark.common.errors import IcmBenchError
from benchmark.common.ray.dashboard import TOKEN_FILE, reach, token

CLIENT = "ray://"  # scheme of Ray's client, which has a server of its own
ANSWER = 4.0  # seconds for an answer: after five, Ray's core tells the terminal that there is none
_VARIABLE = "RAY_ADDRESS"


def check_cluster(address: str) -> None:
    """See that a cluster answers at an address, takes this machine's token, and has its versions of Ray and Python.

    Args:
        address: as RAY_ADDRESS has it: `HOST:PORT`, `auto`, `local`, or that of Ray's client.

    Raises:
        IcmBenchError: it does not, within ten seconds or so; one sentence says what is wrong, and the remedy.
    """
    if address == "local":
        return
    wanted = _bootstrap(address)
    reach(
        f"http://{wanted}", f"{_VARIABLE}={address}", f"start a cluster, or let {_VARIABLE} name the HOST:PORT of one"
    )
    if address.startswith(CLIENT):
        return
    by_token = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    kept, place = token()
    if by_token and not kept:  # with which Ray's core would end the process
        raise IcmBenchError(f"RAY_AUTH_MODE asks for a token and there is none in {place}: copy {TOKEN_FILE} there.")
    _check_versions(address, _metadata(address, wanted, place if by_token else None))


def _bootstrap(address: str) -> str:
    """Return host and port of an address.

    Raises:
        IcmBenchError: it is none of a cluster's, or no cluster runs here.
    """
    from ray._private.services import canonicalize_bootstrap_address

    if address.startswith(CLIENT):
        return address.removeprefix(CLIENT).partition("/")[0]
    try:
        if "://" in address:
            raise ValueError(address)
        host_and_port = canonicalize_bootstrap_address(address)
    except ConnectionError as error:  # of `auto`
        raise IcmBenchError(f"No Ray cluster runs on this machine, and {_VARIABLE}={address} asks for one.") from error
    except (ValueError, OSError):
        host_and_port = None
    port = (host_and_port or "").rpartition(":")[2]
    if not host_and_port or not port.isdigit():
        named = address.rpartition("@")[2]  # without user and password
        raise IcmBenchError(
            f"{_VARIABLE}={named} is no address of a cluster: give HOST:PORT as `ray start` names it, by default with "
            f"port 6379."
        )
    return host_and_port


def _metadata(address: str, wanted: str, token_from: str | None) -> dict[str, str]:
    """Return what a cluster says of itself.

    A thread asks, since Ray knows no end where something else listens.
    """
    found: list[dict[str, str] | Exception] = []
    asking = threading.Thread(target=_ask, args=(wanted, found), daemon=True)
    asking.start()
    asking.join(ANSWER)
    answer = found[0] if found else None
    if isinstance(answer, dict):
        return answer
    from ray.exceptions import AuthenticationError

    if not isinstance(answer, AuthenticationError):
        raise IcmBenchError(
            f"No Ray cluster answers at {_VARIABLE}={address}, although something listens there: give HOST:PORT as "
            f"`ray start` names it, by default with port 6379."
        ) from answer
    if token_from is None:
        raise IcmBenchError(
            f"The cluster at {_VARIABLE}={address} asks for a token: set RAY_AUTH_MODE=token, with {TOKEN_FILE} in "
            f"{token()[1]}."
        )
    raise IcmBenchError(
        f"The cluster at {_VARIABLE}={address} refuses the token of {token_from}: put that of {TOKEN_FILE} in its "
        f"place."
    )


def _ask(wanted: str, found: list[dict[str, str] | Exception]) -> None:
    """Put what a cluster says of itself into a list, or why it does not."""
    from ray._private.ray_constants import KV_NAMESPACE_CLUSTER
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # of compiled code

    try:
        kept = GcsClient(address=wanted).internal_kv_get(
            b"CLUSTER_METADATA", namespace=KV_NAMESPACE_CLUSTER, timeout=ANSWER
        )
        found.append(json.loads(kept or b"{}"))
    except Exception as error:  # of Ray's, and of its RPCs
        found.append(error)


def _check_versions(address: str, cluster: dict[str, str]) -> None:
    """Refuse a cluster of another Ray or Python, whose pickles are not those of this process."""
    import ray

    for what, here, remedy in (
        ("Ray", ray.__version__, "install ray=={} here"),
        ("Python", platform.python_version(), "use Python {} here"),
    ):
        there = cluster.get(f"{what.lower()}_version", here)
        if there != here:
            raise IcmBenchError(
                f"The cluster at {_VARIABLE}={address} has {what} {there}, and this machine {here}: "
                f"{remedy.format(there)}, or the other one on all nodes."
            )
