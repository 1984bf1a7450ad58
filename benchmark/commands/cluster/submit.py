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
from benchmark.common.ray.dashboard import NO_AGENT, job_server, without_agent
from benchmark.common.terminal.progress import tell
from benchmark.common.terminal.signals import exit_code
from benchmark.recipe.recipe import Recipe

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

DIGITS = 12  # number of digits of the hash in the id of a job
TIMEOUT = 60.0  # seconds without an answer, after which a job is no longer followed
PAUSE = 1.0  # seconds before a reconnection
STOPPING = 30.0  # seconds that a stopped job has to end
RUNNING, SUCCEEDED, STOPPED = ("PENDING", "RUNNING"), "SUCCEEDED", "STOPPED"


@dataclass(frozen=True)
class Submission:
    """A cluster job that runs a recipe, before it is sent."""

    id: str  # name of the recipe and hash of files, command and version; later tries add a number
    package: Package  # uploaded files
    entrypoint: str  # command that the cluster runs
    command: str  # command of the user, for messages on how to follow and stop the job

    def record(self) -> dict[str, Any]:
        """Return the submission as plain data."""
        sizes = self.package.sizes
        files = [{"path": place, "bytes": size} for place, size in sizes.items()]
        of_package = {"files": files, "bytes": sum(sizes.values()), "elsewhere": list(self.package.elsewhere)}
        return {"id": self.id, "entrypoint": self.entrypoint, **of_package}

    def text(self) -> str:
        """Return the submission as text."""
        sizes = self.package.sizes
        lines = [f"{self.id}: {len(sizes)} files, {sum(sizes.values()):,} bytes"]
        lines += [f"{size:>14,}  {place}" for place, size in sizes.items()]
        lines += [f"every node must have: {', '.join(self.package.elsewhere)}"] if self.package.elsewhere else []
        return "\n".join([*lines, f"command: {self.entrypoint}"])


@dataclass(frozen=True)
class Job:
    """A job that ended or is no longer followed."""

    id: str
    status: str  # `succeeded`, `failed`, `stopped`, or `running` if it is no longer followed
    exit_code: int  # exit code of the command line, which is the job's own after a failure
    text: str  # message for the user


def submission(
    recipe: Recipe | None, file: Path | None, options: Sequence[str], address: str | None, command: str = "submit"
) -> Submission:
    """Return a job that runs a recipe or `icm-bench doctor`; nothing is sent.

    Args:
        recipe: recipe with the overrides of the command line. None is only for `doctor`, which then checks nodes and
            packages only.
        file: YAML file of the recipe.
        options: options of the command line that the job gets too.
        address: URL of the dashboard, as given on the command line.
        command: `submit` (default) or `doctor`.

    Raises:
        IcmBenchError: the recipe cannot run from the uploaded files; see `packed`.
    """
    package = packed(recipe, file, options) if recipe and file else Package("", {}, ())
    module = ["benchmark.cli", "doctor"] if command == "doctor" else ["jobs.run"]
    entrypoint = shlex.join(["python", "-m", *module, *filter(None, [package.recipe]), *options])
    content = canonical_hash([package.digests(), entrypoint, version("icm-bench")])
    words = [command, *([str(file)] if file else []), *options, *(["--address", address] if address else [])]
    name = recipe.name if recipe and command == "submit" else command
    return Submission(f"{name}-{content[:DIGITS]}", package, entrypoint, shlex.join(["icm-bench", *words]))


def submit(job: Submission, address: str | None, log: TextIO, again: bool = False) -> Job:
    """Run a job on a cluster and follow it to its end; if it runs already, only follow it.

    Args:
        job: the job.
        address: URL of the dashboard; see `job_server`.
        log: receives the output of the job.
        again: whether to run the job even if it has succeeded before. Default False.

    Raises:
        IcmBenchError: the cluster cannot be reached or refuses the job, or the job ended without an exit code.
    """
    client = job_server(address)
    number, last = _last(client, job.id)
    if last is not None and last.status == SUCCEEDED and not again:
        try:
            lines = client.get_job_logs(last.submission_id).splitlines()
        except (RuntimeError, OSError):  # the node with the output is gone
            lines = []
        page = next((line.removeprefix("Page") for line in reversed(lines) if line.startswith("Page: ")), "")
        text = f"{last.submission_id} has succeeded already{page}; `{job.command} --again` repeats it."
        return Job(last.submission_id, "succeeded", 0, text)
    if last is None or last.status not in RUNNING:
        name = f"{job.id}-{number + 1}" if number else job.id
        _send(client, job, name)
    else:
        name = last.submission_id
        tell(f"{name} runs already")
    try:
        return _ended(asyncio.run(_follow(client, job, name, log)))
    except KeyboardInterrupt:
        return Job(name, "running", exit_code(), f"{name} still runs; {_how_to_follow(job)}.")


def stop(job: Submission, address: str | None) -> Job:
    """Stop a job if it runs, and wait until it has ended; refuse a job that does not run."""
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
                where = client.get_address()
                raise IcmBenchError(f"{last.submission_id} still runs {STOPPING:.0f} s after the stop; see {where}.")
            time.sleep(0.5)
    return Job(last.submission_id, "stopped", 0, f"{last.submission_id} is stopped; {_KEPT}.")


_KEPT = "finished work is kept, submit it again to continue"


def _last(client: "JobSubmissionClient", name: str) -> tuple[int, "JobDetails | None"]:
    """Return the number and Ray's details of the last submission of a job; 0 and None if there is none."""
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
                if "already exists" not in str(error):  # another process submitted the same job
                    raise


@contextmanager
def _answering(client: "JobSubmissionClient", what: str) -> Iterator[None]:
    """Turn an error of Ray's client into one sentence with the reason, which is the last line of the error."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        if NO_AGENT in str(error):
            raise IcmBenchError(f"{client.get_address()} does not {what}: {without_agent()}") from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = lines[-1].rstrip(".") if lines else type(error).__name__
        raise IcmBenchError(f"{client.get_address()} does not {what} ({why}).") from error


async def _follow(client: "JobSubmissionClient", job: Submission, name: str, log: TextIO) -> "JobDetails":
    """Write the output of a job until it has ended, and return its details.

    After a reconnection, Ray sends the output from its start; the part that was written before is skipped.
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
                silence = f"{client.get_address()} has not answered for {TIMEOUT:.0f} s"
                raise IcmBenchError(f"{silence}, and {name} may still run; {_how_to_follow(job)}.") from error
        await asyncio.sleep(PAUSE)


def _ended(info: "JobDetails") -> Job:
    """Return the outcome of a job that has ended; raise an error if it was stopped or did not start."""
    name, code = info.submission_id, info.driver_exit_code
    if info.status == SUCCEEDED:
        return Job(name, "succeeded", 0, f"{name} has succeeded.")
    message = info.message or ""
    if info.status == STOPPED:
        raise IcmBenchError(f"{name} was stopped; {_KEPT}.")
    if re.search(r"No module named '?(jobs|benchmark)\b", message):
        node = (info.driver_agent_http_address or "").rpartition("/")[2].rpartition(":")[0] or "that runs it"
        here = version("icm-bench")
        raise IcmBenchError(f"The node {node} has no icm-bench: install {here} with constraints.txt on every node.")
    if not code:
        why = next((line.strip() for line in message.splitlines() if line.strip()), "no reason is known").rstrip(".")
        raise IcmBenchError(f"{name} has failed ({why}); {_KEPT}.")
    code = code if code > 0 else 128 - code  # a negative code is a signal; shells use 128 + signal
    return Job(name, "failed", code, f"{name} has failed with exit code {code}; {_KEPT}.")


def _how_to_follow(job: Submission) -> str:
    return f"follow it again with `{job.command}`, stop it with `{job.command} --stop`"
