"""The connection to Ray: a local one on a laptop, the cluster's inside a job. Nothing else knows the difference."""

import os
import platform
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

from benchmark.common.code import HOME, OWN_PATH
from benchmark.common.errors import FaultError, IcmBenchError, UnwritableError
from benchmark.common.failing import in_words, meant_for_user
from benchmark.common.machine import gpu_devices
from benchmark.common.ray.head import watch_head
from benchmark.common.ray.joining import check_cluster
from benchmark.common.ray.private import private
from benchmark.common.storage.unwritable import inexecutable, remedy, unusable_variable
from benchmark.common.terminal.signals import own_handler
from benchmark.common.terminal.verbosity import is_verbose, tell

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
        meant = meant_for_user(error)
        if meant is None:
            raise
        meant.args = (sentence_of(meant), *meant.args[1:])
        meant.node = ""  # which the sentence has named, where there are several
        raise meant from None
    finally:
        if ours and ray.is_initialized():
            ray.shutdown()


def connect() -> None:
    """See that there is a connection to Ray; whatever has work for it calls this first, in a block of `connected`.

    Raises:
        IcmBenchError: no cluster can be joined at RAY_ADDRESS, see `check_cluster`, or Ray does not start on this
            machine.
    """
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
            with _native_stderr_to(os.devnull), own_handler():
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
            with _native_stderr_to(os.devnull), own_handler(), private():
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
    if isinstance(error, OSError) and error.filename:
        place = os.fsdecode(error.filename)
        closed = f"{place} cannot be written ({error.strerror}); {remedy(error, place)}."
        return UnwritableError(f"Ray does not start on this machine: {inexecutable(error) or closed}")
    if "AF_UNIX path length" in str(error):
        return IcmBenchError(
            f"Ray does not start on this machine: its sockets in {folder} have paths that are too long; let the "
            f"environment variable RAY_TMPDIR name a folder with a shorter one."
        )
    return IcmBenchError(
        f"Ray does not start on this machine: {in_words(error)}. Free some space or memory, or let the environment "
        f"variable RAY_TMPDIR name a folder on a disk with more than {folder} has."
    )


@contextmanager
def _native_stderr_to(path: str) -> Iterator[None]:
    """Send what C++ code writes to standard error into a file; Python's exceptions are not concerned."""
    sys.stderr.flush()
    original, sink = os.dup(2), os.open(path, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(sink)


def sentence_of(error: IcmBenchError | FaultError) -> str:
    """Return the sentence of an error, with the node that it comes from where the connected cluster has several."""
    sentence = str(error)
    if not error.node or error.node in sentence or len(alive_nodes()) < 2:
        return sentence
    return f"On the node {error.node}: {sentence}"


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
    """Return the name of the node that this process runs on; behind it the start of Ray's id where hosts have several.

    In a connection to Ray.
    """
    here, nodes = ray.get_runtime_context().get_node_id(), alive_nodes()
    host = platform.node()
    beside = [node["NodeID"] for node in nodes if node["NodeManagerHostname"] == host and node["NodeID"] != here]
    if not beside:
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
