"""Stages of Ray Data that return failures as values, since Ray loses the cause of an exception; and Ray metrics.

Each table of a stage has a column `failure`. If a stage fails, it returns one row in which only this column is set.
Later stages pass the row on, and `results` raises the failure.
"""

import json
import platform
import sys
import threading
import traceback
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from benchmark.common.errors import FaultError, IcmBenchError
from benchmark.common.failing import outcome_of
from benchmark.common.secrets import hidden

if TYPE_CHECKING:
    import ray.data

FAILURE = "failure"
EXECUTOR_THREADS = "StreamingExecutor-"  # prefix of the name of Ray's thread that runs a data set
JOIN_TIMEOUT = 60.0  # maximum seconds to wait for the end of that thread
# Ray metric -> description; a dashboard shows the rates, such as views/s. docs/clusters.md lists the metrics.
COUNTERS = {
    "views_embedded": "(image, view) pairs that were encoded.",
    "images_decoded": "Images that were read and decoded.",
    "views_computed_again": "Pairs encoded a second time because an encoder was lost.",
}


def run_stage(work: Callable[[pa.Table], pa.Table], given: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `work(given)` with the column `failure`, or one row with the failure of this or an earlier stage."""
    failure = next(filter(None, given[FAILURE].to_pylist()), None) if FAILURE in given.column_names else None
    if failure is None:
        try:
            made = work(given)
            return made.append_column(FAILURE, pa.nulls(len(made), pa.string()))
        except Exception as error:
            print(hidden(traceback.format_exc()), file=sys.stderr)  # Ray writes it into the worker's log
            outcome = outcome_of(error)
            failure = json.dumps([str(outcome), platform.node(), getattr(outcome, "trace", None)])
    nothing = {field.name: pa.nulls(1, field.type) for field in schema}
    return pa.table({**nothing, FAILURE: pa.array([failure])})


def results(dataset: "ray.data.Dataset") -> Generator[pa.Table]:
    """Yield the tables of a data set's last stage, in any order. Close the generator if you stop early.

    Raises:
        IcmBenchError: a stage raised this error.
        FaultError: a stage failed because of a bug in this package.
    """
    # Closing this iterator ends all tasks and actors that Ray runs for it.
    tables: Any = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    try:
        for table in tables:
            for failure in filter(None, table[FAILURE].to_pylist()):
                sentence, node, trace = json.loads(failure)
                error = IcmBenchError(sentence) if trace is None else FaultError(sentence, trace)
                error.node = node
                raise error
            yield table.drop_columns([FAILURE])
    finally:
        tables.close()
        # Ray waits only two seconds for its thread. A thread that outlives the connection would start another Ray.
        for thread in threading.enumerate():
            if thread.name.startswith(EXECUTOR_THREADS):
                thread.join(JOIN_TIMEOUT)


def count(what: str, number: int, device: str = "cpu") -> None:
    """Add `number` to the metric `what`, a key of `COUNTERS`; Ray sums it over workers."""
    if number > 0:
        _counter(what).inc(number, tags={"device": device})


@lru_cache
def _counter(what: str) -> Any:
    from ray.util.metrics import Counter

    return Counter(f"icm_bench_{what}", description=COUNTERS[what], tag_keys=("device",))
