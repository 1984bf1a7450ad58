"""What a worker could not do comes out as itself: code of the user's own with class, file and line, on which node."""

import errno
import inspect
import json
import os
import pickle
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.common.errors import FaultError, IcmBenchError, UnwritableError
from benchmark.common.failing import meant_for_user, outcome_of, propagate_user_errors
from benchmark.common.ray import cluster
from benchmark.common.ray.cluster import connected
from benchmark.common.ray.remote import remote
from benchmark.common.storage.files import Storage
from benchmark.common.workers import Workers
from benchmark.method.evaluation.checked import checked_basis, checked_scores
from benchmark.method.predictors import Problem
from benchmark.method.subspace.basis import Projection
from benchmark.recipe.specs import RunSpec
from benchmark.store.rows import failures
from benchmark.store.sealed import DamagedError
from benchmark.sweep import tune
from benchmark.sweep.batches import Batch
from tests.broken import CutView, NoBasis, Nothing, OneColumn, Raises, RaisesInNumpy

PLACE = Path(__file__).parents[1] / "broken.py"
PROBLEM = Problem(train=np.zeros((0, 2)), labels=np.zeros(0, dtype=np.int64), text=np.eye(2), tests=[])
ASKED = replace(PROBLEM, tests=[np.ones((3, 2))])


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(PLACE.read_text().splitlines(), start=1) if text in line)


def caught(function, *args):  # type: ignore[no-untyped-def]
    with pytest.raises(Exception) as error:  # noqa: PT011
        function(*args)
    return error.value


def test_code_of_the_users_own_is_named_with_class_file_and_line() -> None:
    for part, raised, line in (
        (Raises(), "RuntimeError (this predictor is broken)", "this predictor is broken"),
        (RaisesInNumpy(), "LinAlgError (Singular matrix)", "np.linalg.inv"),  # the user's line that called a library
    ):
        name, at = f"tests.broken:{type(part).__name__}", f"{PLACE}:{line_of(line)}"
        said = str(meant_for_user(caught(part.predict, PROBLEM, [1])))
        assert said == f"{name} raised {raised} at {at}; fix it and run again."


def _fitted(projection: Projection) -> None:
    checked_basis(projection.fit(None), projection.name, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part", "method", "ask", "said"),
    [
        (OneColumn(), "scores", lambda part: [*checked_scores(part, ASKED, [1])],
         "The predictor 'tests.broken:OneColumn' gave scores of shape (3, 1) in place of (3, 2) (images, classes)"),
        (Nothing(), "scores", lambda part: [*checked_scores(part, ASKED, [1])],
         "Its result is not valid: TypeError (object of type 'NoneType' has no len())"),
        (NoBasis(), "fit", _fitted, "The projection 'tests.broken:NoBasis' gave int in place of a Basis"),
        (CutView(), "apply", lambda part: part.views(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ["a"], 0),
         "The intervention 'tests.broken:CutView' must return uint8 of shape (1, 3, 8, 8), not uint8 of shape (1, 3, 8, 4)"),
    ],
)  # fmt: skip
def test_an_answer_in_a_wrong_shape_is_named_with_class_file_and_line(
    part: Any, method: str, ask: Callable[[Any], Any], said: str
) -> None:
    def run(part: Any) -> None:
        ask(part)

    name = f"tests.broken:{type(part).__name__}"
    line = inspect.getsourcelines(getattr(type(part), method))[1]
    expected = f"{said}; see {name}, {method} at {PLACE}:{line}; fix it and run again."
    for _ in range(2):  # a worker tells it, and whoever waits for that hears the same
        meant = meant_for_user(caught(propagate_user_errors(run), part))
        assert str(meant) == expected
        assert str(meant_for_user(meant)) == expected


def test_a_mistake_of_this_package_is_not_meant_for_the_user() -> None:
    assert meant_for_user(caught(np.linalg.inv, np.zeros((2, 2)))) is None
    assert meant_for_user(caught(PROBLEM.project, None, 1)) is None


def test_a_full_disk_names_what_to_free_or_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    meant = meant_for_user(OSError(errno.ENOSPC, "No space left on device", f"{tempfile.gettempdir()}/x"))
    assert isinstance(meant, UnwritableError)
    assert "x cannot be written (No space left on device)" in str(meant)
    assert "TMPDIR and RAY_TMPDIR" in str(meant)
    none = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert "environment variable TMPDIR" in str(meant_for_user(none))
    assert meant_for_user(OSError(errno.ENOENT, "No such file", "/x")) is None


def test_what_is_told_travels_with_its_kind_and_its_node() -> None:
    def damaged() -> None:
        raise DamagedError("one file is damaged.", {"a": "differs"})

    error = pickle.loads(pickle.dumps(caught(propagate_user_errors(damaged))))
    assert isinstance(error, DamagedError)
    assert (str(error), error.problems) == ("one file is damaged.", {"a": "differs"})
    assert error.node


def _refuse(kind: str) -> None:
    if kind == "users":
        Raises().predict(PROBLEM, [1])
    if kind == "fault":
        json.loads("{}")["nobody foresaw"]
    raise UnwritableError("The store cannot be written.")


@pytest.mark.usefixtures("local_ray")
def test_a_fault_in_a_task_comes_with_its_traceback_and_is_one_wherever_it_is_caught() -> None:
    import ray

    for task in (
        remote(num_cpus=0)(_refuse),
        ray.remote(num_cpus=0)(_refuse),
    ):  # the second is not `propagate_user_errors`
        with pytest.raises(Exception, match="nobody foresaw") as error, connected():
            ray.get(task.remote("fault"))
        fault = outcome_of(error.value)
        assert isinstance(fault, FaultError)
        assert str(fault).startswith("KeyError ('nobody foresaw')")
        assert "in _refuse" in fault.trace


@pytest.mark.usefixtures("local_ray")
def test_a_fault_in_a_trial_is_kept_with_its_traceback(tmp_path: Path) -> None:
    storage, trials = Storage(str(tmp_path)), [SimpleNamespace(id="one", label="a trial", samples=False)]  # no more

    def keep(trial: Any, error: Exception) -> None:
        tune._keep_failure(storage, trial, error, None)

    watch = tune._watch("sweep", trials, keep)  # type: ignore[arg-type]
    with connected():
        tune._tune(tune.Given(storage, {}, RunSpec(), "x", 0), trials, [Batch(0, 1)], watch)  # type: ignore[arg-type]
    kept = failures(storage, ["one"])["one"]
    assert kept.reason.startswith("AttributeError ('types.SimpleNamespace' object has no attribute")
    assert "in _rows_of" in kept.fault


@pytest.mark.usefixtures("local_ray")
def test_tasks_of_ray_raise_the_sentence_and_the_node_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    task = remote(num_cpus=0)(_refuse)

    def run(kind: str) -> IcmBenchError:
        with pytest.raises(IcmBenchError) as error, connected():
            ray.get(task.remote(kind))
        assert not isinstance(error.value, ray.exceptions.RayError)
        return error.value

    assert str(run("store")) == "The store cannot be written."
    assert isinstance(run("store"), UnwritableError)
    assert str(run("users")).startswith("tests.broken:Raises raised RuntimeError")
    alive = cluster.alive_nodes()
    monkeypatch.setattr(cluster, "alive_nodes", lambda: [*alive, *alive])
    assert str(run("store")).startswith(f"On the node {alive[0]['NodeManagerHostname']}: The store cannot")


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_dies_is_a_sentence_that_says_what_to_do() -> None:
    import ray

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ray.exceptions.WorkerCrashedError) as crashed:
        ray.get(remote(num_cpus=0, max_retries=0)(die).remote())
    assert str(meant_for_user(crashed.value)).startswith("A worker process died; if it ran out of memory, use")
    lost = ray.exceptions.ObjectReconstructionFailedError  # one of several kinds of lost objects
    assert "lost with its node. Finished work is kept: run" in str(meant_for_user(lost("0" * 56, None, "")))
    assert meant_for_user(ray.exceptions.GetTimeoutError("late")) is None
    full = meant_for_user(ray.exceptions.OutOfDiskError("full"))
    assert isinstance(full, UnwritableError)
    assert "RAY_TMPDIR" in str(full)

    class Starts:
        def __init__(self, refuses: bool) -> None:
            if refuses:
                raise UnwritableError("The store cannot be written.")
            raise RuntimeError("a mistake")

        def done(self) -> None: ...

    def refused(refuses: bool) -> ray.exceptions.RayActorError:
        with pytest.raises(ray.exceptions.RayActorError) as error:
            ray.get(ray.remote(num_cpus=0)(Starts).remote(refuses).done.remote())
        return error.value

    assert str(meant_for_user(refused(True))) == "The store cannot be written."
    assert meant_for_user(refused(False)) is None  # no process died


class Odd(Exception):
    """Cannot be made from what pickle kept of it."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def raises(kind: str):  # type: ignore[no-untyped-def]
    """Raise in a process of `Workers`."""
    if kind == "odd":
        raise Odd("one", "two")
    Raises().predict(PROBLEM, [1])
    yield


@pytest.mark.parametrize(("kind", "said"), [("users", "tests.broken:Raises raised"), ("odd", r"Odd \(onetwo\) at ")])
def test_processes_send_what_they_raise_whatever_it_is(kind: str, said: str) -> None:
    with Workers(1) as workers, pytest.raises(IcmBenchError if kind == "users" else FaultError, match=said):
        list(workers.call_all(raises, [[kind]]))
