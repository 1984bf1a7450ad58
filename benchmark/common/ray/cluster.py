"""The connection to Ray: a local instance, or the cluster that RAY_ADDRESS names. Other modules work with both."""

import os
import platform
import re
import secrets
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray

from benchmark.common.code import HOME, OWN_PATH
from benchmark.common.errors import FaultError, IcmBenchError, UnwritableError
from benchmark.common.failing import in_words, meant_for_user
from benchmark.common.machine import gpu_devices
from benchmark.common.ray.dashboard import token, token_file
from benchmark.common.ray.joining import check_cluster, watch_head
from benchmark.common.storage.places import not_executable, remedy, unusable_variable
from benchmark.common.terminal.progress import is_verbose, tell
from benchmark.common.terminal.signals import sigterm_handler_kept

_MAX_MESSAGE = 200  # maximum characters of a message of Ray
_DEAD = re.compile(r"node id: (\w{6})\w* and address: (\S+) .*marked dead")  # Ray's message about a lost node


class _Job(ray.job_config.JobConfig):
    """A job whose workers search installed packages before the folders of this process.

    By default Ray puts the working directory and the script's folder first, unless a working directory was uploaded.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


@contextmanager
def connected() -> Iterator[None]:
    """Provide Ray to the block: the cluster that RAY_ADDRESS names (Ray's jobs set it), else a local instance.

    A cluster is joined at once. A local Ray takes seconds to start, so it starts at the first `connect` of the block,
    and not at all if nothing is left to compute. If this process already uses Ray, Ray is left running. An error that
    the user can fix is raised without Ray's wrapper; it names the worker's node if there are several nodes.
    """
    ours = not ray.is_initialized()
    if os.environ.get("RAY_ADDRESS"):
        connect()
    try:
        yield
    except Exception as error:
        if (meant := meant_for_user(error)) is None:
            raise
        meant.args = (sentence_of(meant), *meant.args[1:])
        meant.node = ""  # the message contains the node
        raise meant from None
    finally:
        if ours and ray.is_initialized():
            ray.shutdown()


def connect() -> None:
    """Connect to Ray unless connected. Call it before any use of Ray, inside a block of `connected`."""
    if ray.is_initialized():
        return
    # No usage reports over the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # our own messages report failed trials
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    # Ray's core prints warnings about its own internals (ray-project/ray#57733); its log files keep other messages. The
    # core also prints that this level is set, so standard error is discarded while Ray starts.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray._private.worker.print_to_stdstream = _report_lost_nodes
    job = _Job(_py_driver_sys_path=[str(HOME)])
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            if OWN_PATH in os.environ:  # workers of a local Ray inherit the variable
                options["runtime_env"] = {"env_vars": {OWN_PATH: os.environ[OWN_PATH]}}
            with _silent(), sigterm_handler_kept():
                check_cluster(address)
                ray.init(address=address, job_config=job, **options)
            watch_head()
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise IcmBenchError(
                f"No Ray cluster answers at RAY_ADDRESS={address} ({str(error).splitlines()[0]}); "
                f"start one, or unset RAY_ADDRESS to run on this machine."
            ) from error
    else:
        if sentence := unusable_variable("RAY_TMPDIR", *([] if os.environ.get("RAY_TMPDIR") else ["TMPDIR"])):
            raise UnwritableError(sentence)
        try:
            if not gpu_devices():  # an idle worker would hold GPU memory
                # By default Ray ends idle workers after a second, and starts new ones a second later.
                os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
            with _silent(), sigterm_handler_kept(), private():
                ray.init(address="local", include_dashboard=False, job_config=job, **options)
        except Exception as error:  # Ray raises plain exceptions
            raise _not_started(error) from error


def _report_lost_nodes(said: dict[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001  as Ray's own
    """Report lost nodes; with `-v` also the first line of other messages of Ray's processes.

    By default Ray prints all messages, up to sixty lines for a lost node, on standard output, which may be JSON.
    """
    words = " ".join(said["lines"]).strip()
    if dead := _DEAD.search(words):
        tell(f"The node {dead[1]} at {dead[2]} is lost; its unfinished work is computed again.")
    elif words and is_verbose():
        tell(f"Ray: {textwrap.shorten(words.splitlines()[0], _MAX_MESSAGE, placeholder=' ...')}")


def _not_started(error: Exception) -> IcmBenchError:
    """Return the message for a local Ray that does not start; the usual reason is a full disk."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    begins = "Ray does not start on this machine:"
    if isinstance(error, OSError) and error.filename:
        place = os.fsdecode(error.filename)
        closed = f"{place} cannot be written ({error.strerror}); {remedy(error, place)}."
        return UnwritableError(f"{begins} {not_executable(error) or closed}")
    why = f"{in_words(error)}. Free some space or memory, or let"
    way = f"name a folder on a disk with more than {folder} has"
    if "AF_UNIX path length" in str(error):
        why, way = f"the paths of its sockets in {folder} are too long; let", "name a folder with a shorter path"
    return IcmBenchError(f"{begins} {why} the environment variable RAY_TMPDIR {way}.")


@contextmanager
def _silent() -> Iterator[None]:
    """Discard everything, C++ code included, that the block writes to standard error."""
    sys.stderr.flush()
    original, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(sink)


@contextmanager
def private() -> Iterator[None]:
    """Let a Ray instance that starts in the block require a token, and listen on the loopback interface only.

    By default Ray listens on all network interfaces of a Linux machine, and all users can read its token file. If the
    user has set RAY_AUTH_MODE, that value is kept.
    """
    from ray._private import ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]  # of compiled code

    if os.environ.setdefault("RAY_AUTH_MODE", "token").lower() == "token":
        _keep_token()
    Config.initialize("")  # read the variables again
    several, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False  # as on macOS and Windows
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several


def _keep_token() -> None:
    """Create a token if there is none, and make its file readable for the owner only."""
    file = token_file()
    if not token()[0]:
        created, own = secrets.token_hex(32), file.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            own.touch(mode=0o600, exist_ok=False)
            try:
                own.write_text(created)
                if file.exists() and not file.read_text().strip():
                    own.replace(file)
                else:
                    with suppress(FileExistsError):  # another command was first: all processes need the same token
                        os.link(own, file)
            finally:
                own.unlink(missing_ok=True)
        except OSError:  # the home folder is not writable: Ray's processes get the token from the environment
            os.environ["RAY_AUTH_TOKEN"] = created
            return
    with suppress(OSError):  # no file if the token is in the environment
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)


def sentence_of(error: IcmBenchError | FaultError) -> str:
    """Return the message of an error; it names the node of the error if the cluster has several nodes."""
    is_named = error.node and error.node not in str(error) and len(alive_nodes()) > 1
    return f"On the node {error.node}: {error}" if is_named else str(error)


def alive_nodes() -> list[dict[str, Any]]:
    """Return Ray's entries for the live nodes of the connected cluster; empty without a connection."""
    return [node for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []


def gpu_count() -> int:
    """Return the number of GPUs of the connected cluster; 0 without a connection."""
    return int(ray.cluster_resources().get("GPU", 0)) if ray.is_initialized() else 0


def cpu_nodes() -> tuple[int, int]:
    """Return the number of nodes with CPU cores, and the number of cores of the largest node; each at least 1."""
    cores = [int(n["Resources"].get("CPU", 0)) for n in alive_nodes()]
    return max(1, sum(c > 0 for c in cores)), max(1, *cores, 1)


def node_name() -> str:
    """Return the host name of this node, followed by the start of Ray's node id if the host has several nodes."""
    here, host = ray.get_runtime_context().get_node_id(), platform.node()
    same_host = [node["NodeID"] for node in alive_nodes() if node["NodeManagerHostname"] == host]
    if not (others := [node for node in same_host if node != here]):
        return host
    length = next((n for n in range(6, len(here)) if all(other[:n] != here[:n] for other in others)), len(here))
    return f"{host} ({here[:length]})"


def device_of_worker() -> str:
    """Return the type of this worker's GPU, `gpu` if its node does not declare the type, or `cpu` without a GPU."""
    context = ray.get_runtime_context()
    if not context.get_accelerator_ids().get("GPU"):
        return "cpu"
    here = [node["Resources"] for node in alive_nodes() if node["NodeID"] == context.get_node_id()]
    return next((name.partition(":")[2] for has in here for name in has if name.startswith("accelerator_type:")), "gpu")
