"""What `icm-bench submit` makes of a cluster's answers; tests/jobs/test_submit.py has a real one."""

import io
import json
import time
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import ray

import benchmark.commands.cluster.submit as module
from benchmark.commands.cluster.packing import Package
from benchmark.commands.cluster.submit import Job, Submission, submit
from benchmark.common.errors import IcmBenchError

LOG = ["one\n", "two\nth", "ree\n"]
NO_PACKAGE = (
    "Job entrypoint command failed with exit code 1, last available logs:\n"
    "python: Error while finding module specification for 'jobs.run' (ModuleNotFoundError: No module named 'jobs')\n"
)


def details(name: str, status: str, code: int | None = None, message: str = "") -> Any:
    facts = {"submission_id": name, "status": status, "driver_exit_code": code, "message": message}
    return SimpleNamespace(**facts, driver_agent_http_address="http://10.0.0.7:52365")


class Cluster:
    """A job server of the tests: jobs that it knows, and how its next one ends; `breaks` connections break, before the text number `at`."""

    def __init__(self, *jobs: Any, end: Any = None, breaks: int = 0, at: int = 2) -> None:
        self.jobs, self.end, self.breaks = list(jobs), end or details("", "SUCCEEDED", 0), breaks
        self.at, self.sent = at, list[str]()

    def get_address(self) -> str:
        return "http://head:8265"

    def list_jobs(self) -> list[Any]:
        return [details("other-123", "RUNNING"), details("", "RUNNING"), *self.jobs]

    def submit_job(self, submission_id: str, entrypoint: str, runtime_env: dict[str, str]) -> None:
        assert entrypoint == "python -m jobs.run my.yaml"
        assert list(runtime_env) == ["working_dir"]
        assert [p.name for p in Path(runtime_env["working_dir"]).iterdir()] == ["my.yaml"]
        self.sent.append(submission_id)

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:  # noqa: ARG002
        for i, text in enumerate(LOG):
            if self.breaks and i == self.at:
                self.breaks -= 1
                raise ConnectionResetError
            yield text

    def get_job_info(self, name: str) -> Any:
        return details(name, self.end.status, self.end.driver_exit_code, self.end.message)

    def get_job_logs(self, name: str) -> str:
        return f"{name} begins\nPage: /mnt/out/index.html\n"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    (tmp_path / "my.yaml").write_text("name: my")
    package = Package("my.yaml", {"my.yaml": tmp_path / "my.yaml"}, ())
    return Submission("my-1a2b", package, "python -m jobs.run my.yaml", "icm-bench submit my.yaml")


def submitted(
    monkeypatch: pytest.MonkeyPatch, job: Submission, cluster: Cluster, again: bool = False
) -> tuple[Job, str]:
    monkeypatch.setattr(module, "job_server", lambda _: cluster)
    log = io.StringIO()
    return submit(job, None, log, again), log.getvalue()


@pytest.mark.parametrize(
    ("known", "again", "sent"),
    [
        ([], False, ["my-1a2b"]),
        ([("my-1a2b", "FAILED")], False, ["my-1a2b-2"]),
        ([("my-1a2b-9", "FAILED"), ("my-1a2b-10", "STOPPED"), ("my-1a2b", "SUCCEEDED")], False, ["my-1a2b-11"]),
        ([("my-1a2b", "RUNNING")], False, []),
        ([("my-1a2b", "FAILED"), ("my-1a2b-2", "PENDING")], True, []),
        ([("my-1a2b", "SUCCEEDED")], False, []),
        ([("my-1a2b", "SUCCEEDED")], True, ["my-1a2b-2"]),
    ],
)
def test_which_job_is_followed(
    known: list[tuple[str, str]], again: bool, sent: list[str], job: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(*(details(*one) for one in known))
    ended, log = submitted(monkeypatch, job, cluster, again)
    assert cluster.sent == sent
    assert (ended.status, ended.exit_code) == ("succeeded", 0)
    assert ended.id == (sent or [known[-1][0]])[0]
    if known == [("my-1a2b", "SUCCEEDED")] and not again:
        assert "my-1a2b has succeeded already: /mnt/out/index.html; `icm-bench submit my.yaml --again`" in ended.text
    else:
        assert log == "".join(LOG)


@pytest.mark.parametrize(("of_driver", "code"), [(2, 2), (1, 1), (-9, 137)])
def test_the_exit_code_is_the_jobs(of_driver: int, code: int, job: Submission, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, _ = submitted(monkeypatch, job, Cluster(end=details("", "FAILED", of_driver)))
    assert (ended.status, ended.exit_code) == ("failed", code)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (details("", "STOPPED"), "my-1a2b was stopped; finished work is kept"),
        (details("", "FAILED", None, "The node died.\nsee logs"), r"my-1a2b has failed \(The node died\)"),
        (details("", "FAILED", 1, NO_PACKAGE), r"The node 10\.0\.0\.7 has no icm-bench: install "),
    ],
)
def test_an_end_without_an_exit_code_is_a_sentence(
    end: Any, said: str, job: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IcmBenchError, match=said):
        submitted(monkeypatch, job, Cluster(end=end))


def test_a_broken_connection_is_made_again_and_nothing_is_written_twice(
    job: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, log = submitted(monkeypatch, job, Cluster(breaks=3))
    assert ended.status == "succeeded"
    assert log == "".join(LOG)
    monkeypatch.setattr(module, "TIMEOUT", 0.0)
    began = time.monotonic()
    with pytest.raises(IcmBenchError, match="has not answered for 0 s, and my-1a2b may still run"):
        submitted(monkeypatch, job, Cluster(breaks=1000, at=0))
    assert time.monotonic() - began < 30


def test_what_the_cluster_does_not_take_is_a_sentence(job: Submission, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Request failed with status code 500: Traceback\n  File x\nValueError: no agent.\n")

    monkeypatch.setattr(Cluster, "submit_job", refuse)
    with pytest.raises(IcmBenchError, match=r"does not take the job my-1a2b \(ValueError: no agent\)"):
        submitted(monkeypatch, job, Cluster())


def test_a_head_whose_agent_has_no_port_is_told_from_one_that_is_late(
    job: Submission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's own client against an HTTP server that answers as Ray's job server does then."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"version": "4", "ray_version": ray.__version__, "ray_commit": "", "session_name": ""}
            self.answer(200, json.dumps([] if self.path.startswith("/api/jobs") else known))

        def do_PUT(self) -> None:
            self.answer(200, "")

        def do_POST(self) -> None:
            self.answer(500, "No available agent to submit job, please try again later.")

        def answer(self, status: int, text: str) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # `job_server` sets it
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(IcmBenchError) as refused:
            submit(job, f"http://127.0.0.1:{server.server_port}", io.StringIO())
        server.shutdown()
    for words in ("the port 52365", "dashboard_agent.log", "--dashboard-agent-listen-port=N"):
        assert words in str(refused.value)
