"""`icm-bench submit`: run a recipe on a cluster, with the files that it names, and follow it to the end."""

import asyncio
import re
import shlex
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from benchmark.commands.cluster.packing import Package, packed
from benchmark.common.errors import IcmBenchError
from benchmark.common.plain import canonical_hash
from benchmark.common.ray.dashboard import job_server
from benchmark.common.terminal.progress import tell
from benchmark.common.terminal.signals import exit_code
from benchmark.recipe.recipe import Recipe

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

DIGITS = 12  # of a hash: enough for all jobs that a cluster ever sees
TIMEOUT = 60.0  # seconds without an answer, after which a job that goes on is left alone
PAUSE = 1.0  # seconds, before a connection is made again
STOPPING = 30.0  # seconds: Ray kills what has not ended some seconds after it was asked to
RUNNING, SUCCEEDED, STOPPED = ("PENDING", "RUNNING"), "SUCCEEDED", "STOPPED"


@dataclass(frozen=True)
class Submission:
    """A recipe as a job of a cluster."""

    id: str  # from the hash of recipe, files, overrides and version; tries after the first one add a number
    package: Package  # what is uploaded
    entrypoint: str  # the command that the cluster runs
    command: str  # the command that was given here, to say how to follow and to stop

    def record(self) -> dict[str, Any]:
        """Return what would be submitted, as plain data."""
        sizes = self.package.sizes
        files = [{"path": place, "bytes": size} for place, size in sizes.items()]
        of_package = {"files": files, "bytes": sum(sizes.values()), "elsewhere": list(self.package.elsewhere)}
        return {"id": self.id, "entrypoint": self.entrypoint, **of_package}

    def text(self) -> str:
        """Return what would be submitted, for a person."""
        sizes = self.package.sizes
        lines = [f"{self.id}: {len(sizes)} files, {sum(sizes.values()):,} bytes"]
        lines += [f"{size:>14,}  {place}" for place, size in sizes.items()]
        lines += [f"every node must have: {', '.join(self.package.elsewhere)}"] if self.package.elsewhere else []
        return "\n".join([*lines, f"command: {self.entrypoint}"])


@dataclass(frozen=True)
class Job:
    """What became of a job."""

    id: str
    status: str  # `succeeded`, `failed`, `stopped`, or `running` where nobody follows it any more
    exit_code: int  # what the command line ends with: that of the job
    text: str  # a sentence for a person


def submission(recipe: Recipe, file: Path, options: Sequence[str], address: str | None = None) -> Submission:
    """Return a recipe as a job; nothing is sent.

    Args:
        recipe: as it will run, with all that the command line overrides.
        file: its YAML file.
        options: of the command line, which the job gets too.
        address: of the dashboard, as the command line has it.

    Raises:
        IcmBenchError: the recipe cannot run from what would be uploaded; see `packed`.
    """
    package = packed(recipe, file, options)
    where = ["--address", address] if address else []
    words = ["jobs.run", package.recipe, *options], ["submit", str(file), *options, *where]
    return _submission(recipe.name, package, *words)


def checking(recipe: Recipe | None, file: Path | None, options: Sequence[str], address: str) -> Submission:
    """Return `icm-bench doctor` as a job, for a recipe or, without, for nodes and packages alone; nothing is sent."""
    package = packed(recipe, file, options) if recipe and file else Package("", {}, ())
    named = [str(file)] if file else []
    job = ["benchmark.cli", "doctor", *filter(None, [package.recipe]), *options]
    return _submission("doctor", package, job, ["doctor", *named, *options, "--address", address])


def _submission(name: str, package: Package, job: list[str], command: list[str]) -> Submission:
    entrypoint = shlex.join(["python", "-m", *job])
    known = canonical_hash([package.digests(), entrypoint, version("icm-bench")])
    return Submission(f"{name}-{known[:DIGITS]}", package, entrypoint, shlex.join(["icm-bench", *command]))


def submit(job: Submission, address: str | None, log: TextIO, again: bool = False) -> Job:
    """Run a recipe on a cluster and follow it to its end; the job that runs already is followed, and none started.

    Args:
        job: what to run.
        address: of the dashboard; see `job_server`.
        log: takes the job's output as it comes.
        again: run it although it has succeeded.

    Raises:
        IcmBenchError: the cluster cannot be reached or does not take the job, or the job ended without an exit code.
    """
    client = job_server(address)
    number, last = _last(client, job.id)
    if last is not None and last.status == SUCCEEDED and not again:
        try:
            lines = client.get_job_logs(last.submission_id).splitlines()
        except (RuntimeError, OSError):  # the node with its output is gone
            lines = []
        page = next((line.removeprefix("Page") for line in reversed(lines) if line.startswith("Page: ")), "")
        said = f"{last.submission_id} has succeeded already{page}; `{job.command} --again` repeats it."
        return Job(last.submission_id, "succeeded", 0, said)
    if last is None or last.status not in RUNNING:
        name = f"{job.id}-{number + 1}" if number else job.id
        _send(client, job, name)
    else:
        name = last.submission_id
        tell(f"{name} runs already")
    try:
        return _ended(asyncio.run(_follow(client, job, name, log)))
    except KeyboardInterrupt:
        return Job(name, "running", exit_code(), f"{name} goes on; {_how(job)}.")


def stop(job: Submission, address: str | None) -> Job:
    """Stop the job that runs a recipe on the cluster of a dashboard, and wait until it has ended."""
    client = job_server(address)
    _, last = _last(client, job.id)
    if last is None or last.status not in RUNNING:
        state = f"it has {last.status.lower()}" if last else "it was never submitted there"
        raise IcmBenchError(f"{job.id} does not run at {client.get_address()}: {state}.")
    with _answering(client, f"stop {last.submission_id}"):
        client.stop_job(last.submission_id)
        end = time.monotonic() + STOPPING
        while client.get_job_status(last.submission_id) in RUNNING:
            if time.monotonic() > end:
                raise IcmBenchError(
                    f"{last.submission_id} was told to stop and still runs after {STOPPING:.0f} s; see "
                    f"{client.get_address()}."
                )
            time.sleep(0.5)
    return Job(last.submission_id, "stopped", 0, f"{last.submission_id} is stopped; {_KEPT}.")


_KEPT = "what is finished is kept, submit it again to go on"


def _last(client: "JobSubmissionClient", name: str) -> tuple[int, "JobDetails | None"]:
    """Return number and details of the last try of a job, 0 and None where there was none."""
    with _answering(client, "list its jobs"):
        jobs = client.list_jobs()
    found = [(re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", info.submission_id or ""), info) for info in jobs]
    tries = {int(match[1] or 1): info for match, info in found if match}
    number = max(tries, default=0)
    return number, tries.get(number)


def _send(client: "JobSubmissionClient", job: Submission, name: str) -> None:
    """Upload a package and start its job."""
    sizes = job.package.sizes.values()
    tell(f"{name}: {len(sizes)} files, {sum(sizes):,} bytes go to {client.get_address()}")
    with tempfile.TemporaryDirectory(prefix="icm-bench-") as folder:
        job.package.copy_to(Path(folder))
        with _answering(client, f"take the job {name}"):
            try:
                client.submit_job(entrypoint=job.entrypoint, submission_id=name, runtime_env={"working_dir": folder})
            except RuntimeError as error:
                if "already exists" not in str(error):  # else somebody was faster with the same recipe
                    raise


@contextmanager
def _answering(client: "JobSubmissionClient", what: str) -> Iterator[None]:
    """Say in a sentence what a cluster does not do: of Ray's errors the last line tells why."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[-1].rstrip(".") if lines else type(error).__name__
        raise IcmBenchError(f"{client.get_address()} does not {what} ({why}).") from error


async def _follow(client: "JobSubmissionClient", job: Submission, name: str, log: TextIO) -> "JobDetails":
    """Write what a job prints until it has ended, and return its details.

    A broken connection is made again: the output then comes from its start, and what was written is left out.
    """
    import aiohttp

    written, lost = 0, None
    while True:
        position = 0
        try:
            async for text in client.tail_job_logs(name):
                log.write(text[max(0, written - position) :])
                log.flush()
                position += len(text)
                written, lost = max(written, position), None
            info = client.get_job_info(name)
            if info.status not in RUNNING:
                return info
            lost = None
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            lost = lost or time.monotonic()
            if time.monotonic() - lost > TIMEOUT:
                raise IcmBenchError(
                    f"{client.get_address()} has not answered for {TIMEOUT:.0f} s, and {name} may go on; {_how(job)}."
                ) from error
        await asyncio.sleep(PAUSE)


def _ended(info: "JobDetails") -> Job:
    """Return what became of a job that has ended; refuse one that never ran to an end of its own, or not at all."""
    name, code = info.submission_id, info.driver_exit_code
    if info.status == SUCCEEDED:
        return Job(name, "succeeded", 0, f"{name} has succeeded.")
    message = info.message or ""
    if info.status == STOPPED:
        raise IcmBenchError(f"{name} was stopped; {_KEPT}.")
    if re.search(r"No module named '?(jobs|benchmark)\b", message):
        node = (info.driver_agent_http_address or "").rpartition("/")[2].rpartition(":")[0] or "that runs it"
        raise IcmBenchError(
            f"The node {node} has no icm-bench: install version {version('icm-bench')} on every node, with the "
            f"versions of constraints.txt."
        )
    if not code:
        why = next((line.strip() for line in message.splitlines() if line.strip()), "no reason is known").rstrip(".")
        raise IcmBenchError(f"{name} has failed ({why}); {_KEPT}.")
    code = code if code > 0 else 128 - code  # ended by a signal, as a shell says it
    return Job(name, "failed", code, f"{name} has failed with exit code {code}; {_KEPT}.")


def _how(job: Submission) -> str:
    return f"follow it again with `{job.command}`, stop it with `{job.command} --stop`"
