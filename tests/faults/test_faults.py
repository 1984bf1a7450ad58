"""Plans of faults are drawn by their seed alone, and a fault happens once, at the call that it names."""

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.faults.inject import Faults
from tests.faults.plan import LOSE_NODES, Fault, plan_of

FILES = {
    "costs": 1, "images": 1, "embeddings": 12, "made": 1, "sums": 4, "rows": 4, "runs": 1, "tested": 4, "texts": 1,
}  # fmt: skip
GATE = 10  # seeds of .ci/run


def test_a_seed_draws_the_same_plan_and_the_gate_has_every_kind_of_fault() -> None:
    plans = [plan_of(seed, FILES) for seed in range(200)]
    assert plans == [plan_of(seed, dict(reversed(FILES.items()))) for seed in range(200)]
    assert {fault.act for plan in plans[:GATE] for fault in plan.faults} >= {"kill", "full", "error", *LOSE_NODES}
    assert {(plan.where, plan.writers) for plan in plans} == {(w, n) for w in ("folder", "s3") for n in (1, 2)}


def test_a_fault_happens_once_at_the_call_that_it_names(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps([asdict(Fault("rows", "begin", 3, "full"))]))
    one, other = Faults(plan), Faults(plan)  # of two processes, which count together
    for faults in (one, other):
        faults.meet("/store/rows/a.parquet", "begin")
        faults.meet("/store/sums/a/b/c.safetensors", "begin")
        faults.meet("/store/rows/a.parquet", "written")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as raised:
        one.meet("/store/rows/b.parquet", "begin")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "/store/rows/b.parquet")
    for faults in (one, other):
        faults.meet("/store/rows/c.parquet", "begin")
