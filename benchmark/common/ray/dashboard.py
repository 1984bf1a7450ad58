"""Client of the job server behind a Ray cluster's dashboard, with checks that fail within seconds and say why."""

import http.client
import json
import logging
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmark.common.errors import IcmBenchError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DEFAULT_ADDRESS = "http://127.0.0.1:8265"  # Ray's default address of the dashboard
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # environment variables, in the order in which Ray reads them
TIMEOUT = 5.0  # seconds for a connection, and again for an answer
NO_AGENT = "No available agent"  # answer of a job server whose head has no agent that could start a job
AGENT_PORT = 52365  # Ray's default port of a node's dashboard agent, which starts jobs
TOKEN_FILE = "the head's ~/.ray/auth_token"
_PORTS = {"http": 80, "https": 443}


def job_server(address: str | None = None) -> "JobSubmissionClient":
    """Return Ray's client of the job server at an address.

    The port is tried first, since Ray's client would wait for minutes. The token is sent only to a server that asks for
    one, as a header of each request, so that no log and no message of Ray contains it.

    Args:
        address: address of the dashboard, as `http://HOST:8265`. Default: the value of RAY_API_SERVER_ADDRESS or
            RAY_ADDRESS, else a cluster on this machine.

    Raises:
        IcmBenchError: no server answers, it is no Ray dashboard, it refuses the token, or its Ray has another version.
    """
    address = dashboard_address(address)
    reach(address, address, "start a cluster, or give --address http://HOST:PORT of its dashboard")
    headers: dict[str, str] = {}
    status, version = _version(address, headers)
    if status in (401, 403):
        kept, place = token()
        if not kept:
            raise IcmBenchError(f"{address} asks for a token and there is none in {place}: copy {TOKEN_FILE} there.")
        headers = {"Authorization": f"Bearer {kept}"}
        status, version = _version(address, headers)
        if status in (401, 403):
            raise IcmBenchError(f"{address} refuses the token of {place}: put that of {TOKEN_FILE} in its place.")
    if version is None:
        raise IcmBenchError(
            f"{address} answers, but is no Ray dashboard: give --address http://HOST:PORT of the one that `ray start` "
            f"names, by default port 8265."
        )
    import ray
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if version != ray.__version__:
        raise IcmBenchError(
            f"The cluster at {address} has Ray {version}, and this machine {ray.__version__}: install ray=={version} "
            f"here, or the other one on all nodes."
        )
    for handler in logging.getLogger("ray").handlers:  # these log uploads and sockets
        handler.setLevel(logging.WARNING)
    os.environ[ADDRESSES[0]] = address  # Ray prefers this variable to the argument
    try:
        return JobSubmissionClient(address, headers=headers)
    except AuthenticationError as error:  # RAY_AUTH_MODE is set here, and the cluster asks for none
        raise IcmBenchError(f"RAY_AUTH_MODE asks for a token, and there is none in {token()[1]}.") from error
    except (ConnectionError, RuntimeError) as error:
        raise IcmBenchError(f"{address} does not take jobs ({str(error).splitlines()[0]}).") from error


def nodes_of(address: str) -> list[dict[str, float]]:
    """Return the resources of each live node of a cluster, as Ray counts them: CPU, GPU, memory in bytes."""
    # Ray's public function for this request does not send the token.
    answer = job_server(address)._do_request("GET", "/api/v0/nodes?detail=true&limit=10000")
    try:
        answer.raise_for_status()
        nodes = answer.json()["data"]["result"]["result"]
        return [dict(node["resources_total"]) for node in nodes if node["state"] == "ALIVE"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        there = dashboard_address(address)
        raise IcmBenchError(f"{there} does not tell of its nodes; plan without --address.") from error


def dashboard_address(address: str | None = None) -> str:
    """Return the URL of the dashboard, without a path; `address` as for `job_server`."""
    given = address or next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), DEFAULT_ADDRESS)
    url = given if "://" in given else f"http://{given}"
    with suppress(ValueError):  # raised for a port that is not a number
        parts = urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname and (parts.port or ":" in given) and not parts.username:
            return f"{parts.scheme}://{parts.netloc}"
    named = given.rpartition("@")[2]  # without user and password
    raise IcmBenchError(f"'{named}' is no address of a Ray dashboard: give --address http://HOST:8265.")


def without_agent() -> str:
    """Return the end of a sentence on a head whose agent, which starts jobs, could not listen."""
    return (
        f"its head has no agent that starts jobs, mostly since another Ray on that machine holds the port {AGENT_PORT} "
        f"(see dashboard_agent.log in its folder /tmp/ray/session_latest/logs); start the head by `ray start --head "
        f"... --dashboard-agent-listen-port=N` with a free port N."
    )


def reach(address: str, name: str, remedy: str) -> None:
    """Raise IcmBenchError if no server accepts a connection within `TIMEOUT`.

    The message shows `name` instead of the address, and ends with `remedy`.
    """
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), timeout=TIMEOUT).close()
    except OSError as error:  # also raised for an unknown host
        raise IcmBenchError(f"Nothing answers at {name} ({error.strerror or error}): {remedy}.") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect, which would send the token to another host."""

    def redirect_request(self, *_: Any) -> None: ...


def _version(address: str, headers: Mapping[str, str]) -> tuple[int, str | None]:
    """Return (HTTP status, version of Ray) of the server at an address.

    The status is 0 if the answer is not HTTP or not JSON. The version is None if it is unknown.
    """
    request = urllib.request.Request(f"{address}/api/version", headers=dict(headers))
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT) as answer:
            content = json.loads(answer.read(2**16))
    except urllib.error.HTTPError as error:
        return error.code, None
    except (OSError, ValueError, http.client.HTTPException) as error:  # the answer is not HTTP, or not JSON
        why = getattr(error, "reason", None)
        if isinstance(why, ssl.SSLCertVerificationError):
            raise IcmBenchError(
                f"This machine does not trust the certificate of {address} ({why.verify_message}): name its authority "
                f"in the variable SSL_CERT_FILE."
            ) from error
        return 0, None
    version = content.get("ray_version") if isinstance(content, dict) else None
    return 200, version if isinstance(version, str) else None


def token() -> tuple[str, str]:
    """Return this machine's token for Ray (empty if there is none), and the variable or file of tokens."""
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return value, "RAY_AUTH_TOKEN"
    with suppress(OSError, ValueError):
        return token_file().read_text(encoding="utf-8").strip(), str(token_file())
    return "", str(token_file())


def token_file() -> Path:
    """Return the file in which Ray looks for a token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
