"""The connection to Ray: a local one on a laptop, the cluster's inside a job. Nothing else knows the difference."""

import os
import platform
import re
import secrets
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray

from benchmark.common.code import HOME, OWN_PATH
from benchmark.common.errors import FaultError, IcmBenchError, UnwritableError
from benchmark.common.failing import in_words, meant_for_user
from benchmark.common.machine import gpu_devices
from benchmark.common.ray.dashboard import token, token_file
from benchmark.common.ray.joining import check_cluster, watch_head
from benchmark.common.storage.places import inexecutable, remedy, unusable_variable
from benchmark.common.terminal.progress import is_verbose, tell
from benchmark.common.terminal.signals import own_handler

_LONGEST = 200  # characters of what Ray says of a process
_DEAD = re.compile(r"node id: (\w{6})\w* and address: (\S+) .*marked dead")  # what Ray says of a node, once


class _Job(ray.job_config.JobConfig):
    """A job whose workers look into none of the folders of this process before what is installed.

    Into the working directory and the script's folder Ray lets them look first, unless it has uploaded one.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


@contextmanager
def connected() -> Iterator[None]:
    """Let the block have Ray: the cluster that RAY_ADDRESS names (a job has it set), else one on this machine.

    A cluster is joined at once. Ray on this machine, which takes seconds to start, waits for the first `connect` of the
    block: where all is computed, it does not start. A Ray that was running before is used as it is and left running.
    Errors that are for the user come out as themselves, without the wrapping that Ray adds; where there are several
    nodes, the sentence names the one whose worker raised it.
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
        meant.node = ""  # which the sentence has named, where there are several
        raise meant from None
    finally:
        if ours and ray.is_initialized():
            ray.shutdown()


def connect() -> None:
    """See that there is a connection to Ray; whatever has work for it calls this first, in a block of `connected`."""
    if ray.is_initialized():
        return
    # Local workers speak to this process alone; Ray's own reports would go out to the network.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # our own messages report failed trials
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    # Ray's core tells the terminal, or the log of a job, of what is no fault of the user's, as of the arguments of
    # actors (ray-project/ray#57733); its log files keep what is. Asked not to, it tells that it was asked: hence no
    # standard error for as long as it starts.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray._private.worker.print_to_stdstream = _tell_of_nodes
    job = _Job(_py_driver_sys_path=[str(HOME)])
    if address := os.environ.get("RAY_ADDRESS"):
        try:
            if OWN_PATH in os.environ:  # on this machine workers have it from here
                options["runtime_env"] = {"env_vars": {OWN_PATH: os.environ[OWN_PATH]}}
            with _silent(), own_handler():
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
            if not gpu_devices():  # whose memory an idle worker would hold
                # By itself Ray ends workers that had nothing to do for a second, and starts others a second later.
                os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "60000")
            with _silent(), own_handler(), private():
                ray.init(address="local", include_dashboard=False, job_config=job, **options)
        except Exception as error:  # Ray raises plain ones
            raise _not_started(error) from error


def _tell_of_nodes(said: dict[str, Any], ignore_prefix: bool) -> None:  # noqa: ARG001  as Ray's own
    """Tell that a node is lost; with `-v` the first line of whatever else Ray says of its processes.

    By itself it prints it all on standard output, which may be JSON: of a node that died, up to sixty lines.
    """
    words = " ".join(said["lines"]).strip()
    if dead := _DEAD.search(words):
        tell(f"The node {dead[1]} at {dead[2]} is lost; what it had under way is computed again.")
    elif words and is_verbose():
        tell(f"Ray: {textwrap.shorten(words.splitlines()[0], _LONGEST, placeholder=' ...')}")


def _not_started(error: Exception) -> IcmBenchError:
    """Return the error for the user where no Ray starts on this machine: mostly for want of room for its files."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    begins = "Ray does not start on this machine:"
    if isinstance(error, OSError) and error.filename:
        place = os.fsdecode(error.filename)
        closed = f"{place} cannot be written ({error.strerror}); {remedy(error, place)}."
        return UnwritableError(f"{begins} {inexecutable(error) or closed}")
    why = f"{in_words(error)}. Free some space or memory, or let"
    way = f"name a folder on a disk with more than {folder} has"
    if "AF_UNIX path length" in str(error):
        why, way = f"its sockets in {folder} have paths that are too long; let", "name a folder with a shorter one"
    return IcmBenchError(f"{begins} {why} the environment variable RAY_TMPDIR {way}.")


@contextmanager
def _silent() -> Iterator[None]:
    """Send what C++ code writes to standard error nowhere; Python's exceptions are not concerned."""
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
    """Let a Ray that the block starts ask for a token, which is made where there is none, and listen on the loopback.

    By itself Ray listens on all interfaces of a Linux machine, and writes its token so that every user of it can read
    it. A user who has set RAY_AUTH_MODE to something else gets that.
    """
    from ray._private import ray_constants
    from ray._raylet import Config  # type: ignore[attr-defined]  # of compiled code

    if os.environ.setdefault("RAY_AUTH_MODE", "token").lower() == "token":
        _keep_token()
    Config.initialize("")  # which has read the variables already
    several, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False  # as on macOS and Windows
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several


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


def _write_first(file: Path, made: str) -> None:
    """Write a token, unless another command has written one meanwhile: all processes of a Ray must have the same."""
    own = file.with_name(f".{secrets.token_hex(8)}.tmp")
    own.touch(mode=0o600, exist_ok=False)
    own.write_text(made)
    try:
        if file.exists() and not file.read_text().strip():
            own.replace(file)
        else:
            with suppress(FileExistsError):
                os.link(own, file)
    finally:
        own.unlink(missing_ok=True)


def sentence_of(error: IcmBenchError | FaultError) -> str:
    """Return the sentence of an error, with the node that it comes from where the connected cluster has several."""
    is_named = error.node and error.node not in str(error) and len(alive_nodes()) > 1
    return f"On the node {error.node}: {error}" if is_named else str(error)


def alive_nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of the nodes of the connected cluster that live; none as long as there is no connection."""
    return [node for node in ray.nodes() if node["Alive"]] if ray.is_initialized() else []


def gpu_count() -> int:
    """Return the number of GPUs that the connected cluster has; 0 as long as there is no connection."""
    return int(ray.cluster_resources().get("GPU", 0)) if ray.is_initialized() else 0


def cpu_nodes() -> tuple[int, int]:
    """Return the number of nodes with CPU cores, and the cores of the largest: no task can have more."""
    cores = [int(n["Resources"].get("CPU", 0)) for n in alive_nodes()]
    return max(1, sum(c > 0 for c in cores)), max(1, *cores, 1)


def node_name() -> str:
    """Return the name of the node of this process; behind it the start of Ray's id where hosts have several."""
    here, host = ray.get_runtime_context().get_node_id(), platform.node()
    same_host = [node["NodeID"] for node in alive_nodes() if node["NodeManagerHostname"] == host]
    if not (beside := [node for node in same_host if node != here]):
        return host
    length = next((n for n in range(6, len(here)) if all(other[:n] != here[:n] for other in beside)), len(here))
    return f"{host} ({here[:length]})"


def device_of_worker() -> str:
    """Return the kind of the GPU that Ray gave to this worker, `gpu` where its node does not tell, or `cpu`."""
    context = ray.get_runtime_context()
    if not context.get_accelerator_ids().get("GPU"):
        return "cpu"
    here = [node["Resources"] for node in alive_nodes() if node["NodeID"] == context.get_node_id()]
    return next((name.partition(":")[2] for has in here for name in has if name.startswith("accelerator_type:")), "gpu")
