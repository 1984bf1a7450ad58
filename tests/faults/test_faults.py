"""Plans of faults are drawn by their seed alone, and a fault happens once, at the call that it names."""

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.inject import Faults
from tests.faults.plan import ACTS, LOSE_NODES, OF_WORKERS, POINTS, POINTS_OF_OBJECTS, Fault, plan_of

FILES = {
    "costs": 1, "details": 4, "embeddings": 12, "made": 1, "moments": 4, "rows": 4, "runs": 1, "tested": 4, "texts": 1,
}  # fmt: skip
GATE = 10  # seeds of .ci/run


def test_a_seed_draws_the_same_plan_and_seeds_differ() -> None:
    plans = [plan_of(seed, FILES) for seed in range(200)]
    assert plans == [plan_of(seed, dict(reversed(FILES.items()))) for seed in range(200)]
    assert len({plan.faults for plan in plans}) > 150
    met = [fault for plan in plans for fault in plan.faults]
    assert {fault.point for fault in met} == {*POINTS, "read"}
    assert {fault.act for fault in met} == {*ACTS}
    assert max(sum(fault.act in LOSE_NODES for fault in plan.faults) for plan in plans) == 1
    assert {fault.folder for fault in met} == {*FILES}
    assert all(1 <= fault.nth <= FILES[fault.folder] for fault in met)
    losing = [fault for plan in plans for fault in plan.faults if fault.act in LOSE_NODES]
    assert {fault.folder for fault in losing} <= {*OF_WORKERS}
    gate = {fault.act for plan in plans[:GATE] for fault in plan.faults}
    assert gate >= {"kill", "full", "error", *LOSE_NODES}  # and what the gate runs
    assert {plan.where for plan in plans} == {"folder", "s3"}
    assert {plan.writers for plan in plans} == {1, 2}
    of_objects = {fault.point for plan in plans if plan.where == "s3" for fault in plan.faults}
    assert of_objects == {*POINTS_OF_OBJECTS, "read"}


def test_a_fault_happens_once_at_the_call_that_it_names(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([asdict(Fault("rows", "begin", 3, "full"))]))
    one, other = Faults(plan), Faults(plan)  # of two processes, which count together
    for faults in (one, other):
        faults.meet("/store/rows/a.parquet", "begin")
        faults.meet("/store/moments/a/b/c.safetensors", "begin")
        faults.meet("/store/rows/a.parquet", "written")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as raised:
        one.meet("/store/rows/b.parquet", "begin")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "/store/rows/b.parquet")
    for faults in (one, other):
        faults.meet("/store/rows/c.parquet", "begin")
