"""The job server behind a cluster's dashboard: found within seconds, or a sentence says why not."""

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

DEFAULT_ADDRESS = "http://127.0.0.1:8265"  # where Ray's dashboard is unless it is told otherwise
ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # variables, in the order in which Ray looks at them
TIMEOUT = 5.0  # seconds for a connection, and for an answer
TOKEN_FILE = "the head's ~/.ray/auth_token"
_PORTS = {"http": 80, "https": 443}


def job_server(address: str | None = None) -> "JobSubmissionClient":
    """Return Ray's client of the job server at an address.

    The port is tried before Ray's client is, which waits for minutes. The token is sent only where one is asked for,
    and as a header of each request: nothing else that Ray keeps or prints has it.

    Args:
        address: of the dashboard, as `http://HOST:8265`. Default: the variable RAY_API_SERVER_ADDRESS or RAY_ADDRESS,
            else a cluster on this machine.

    Raises:
        IcmBenchError: nothing is there, it is no Ray dashboard, it asks for another token, or has another version.
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
    for handler in logging.getLogger("ray").handlers:  # which tell of packages and sockets
        handler.setLevel(logging.WARNING)
    os.environ[ADDRESSES[0]] = address  # else a variable of the environment wins over the argument
    try:
        return JobSubmissionClient(address, headers=headers)
    except AuthenticationError as error:  # RAY_AUTH_MODE is set here, and the cluster asks for none
        raise IcmBenchError(f"RAY_AUTH_MODE asks for a token, and there is none in {token()[1]}.") from error
    except (ConnectionError, RuntimeError) as error:
        raise IcmBenchError(f"{address} does not take jobs ({str(error).splitlines()[0]}).") from error


def nodes_of(address: str) -> list[dict[str, float]]:
    """Return the resources of each node of a cluster that lives, as Ray counts them: CPU, GPU, memory in bytes."""
    # Ray's public function for it takes no token.
    answer = job_server(address)._do_request("GET", "/api/v0/nodes?detail=true&limit=10000")
    try:
        answer.raise_for_status()
        nodes = answer.json()["data"]["result"]["result"]
        return [dict(node["resources_total"]) for node in nodes if node["state"] == "ALIVE"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        there = dashboard_address(address)
        raise IcmBenchError(f"{there} does not tell of its nodes; plan without --address.") from error


def dashboard_address(address: str | None = None) -> str:
    """Return where the dashboard is, as a URL without a path; see `job_server`."""
    given = address or next((os.environ[name] for name in ADDRESSES if os.environ.get(name)), DEFAULT_ADDRESS)
    url = given if "://" in given else f"http://{given}"
    with suppress(ValueError):  # a port that is no number
        parts = urlsplit(url)
        if parts.scheme in _PORTS and parts.hostname and (parts.port or ":" in given) and not parts.username:
            return f"{parts.scheme}://{parts.netloc}"
    named = given.rpartition("@")[2]  # without user and password
    raise IcmBenchError(f"'{named}' is no address of a Ray dashboard: give --address http://HOST:8265.")


def reach(address: str, name: str, remedy: str) -> None:
    """See that somebody listens at a URL, within `TIMEOUT`; else a sentence calls it by its name, with a remedy."""
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port or _PORTS[parts.scheme]), timeout=TIMEOUT).close()
    except OSError as error:  # no such host among them
        raise IcmBenchError(f"Nothing answers at {name} ({error.strerror or error}): {remedy}.") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirect would carry the token to another host."""

    def redirect_request(self, *_: Any) -> None: ...


def _version(address: str, headers: Mapping[str, str]) -> tuple[int, str | None]:
    """Return the status of what answers at an address, and the version of Ray if it is its dashboard."""
    request = urllib.request.Request(f"{address}/api/version", headers=dict(headers))
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT) as answer:
            content = json.loads(answer.read(2**16))
    except urllib.error.HTTPError as error:
        return error.code, None
    except (OSError, ValueError, http.client.HTTPException) as error:  # no HTTP, or no JSON
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
    """Return the token of this machine, empty where there is none, and where it is kept: the places are Ray's."""
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return value, "RAY_AUTH_TOKEN"
    with suppress(OSError, ValueError):
        return token_file().read_text(encoding="utf-8").strip(), str(token_file())
    return "", str(token_file())


def token_file() -> Path:
    """Return the file in which Ray looks for a token."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
