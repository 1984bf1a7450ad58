"""Stages of Ray Data whose failures are values, since Ray loses the cause of an exception; and their counters.

Each table of a stage has a column `failure`. A stage that fails gives one row with nothing but that; later stages pass
it on, and whoever reads the results raises it.
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
EXECUTOR = "StreamingExecutor-"  # how Ray Data names the thread that runs a data set
MAX_SECONDS = 60.0  # that it is waited for
# Counters in Ray's own metrics: a dashboard shows their rates, views/s among them.
COUNTERS = {
    "views_embedded": "(image, view) pairs that were encoded.",
    "images_decoded": "Images that were read and decoded.",
    "views_computed_again": "Pairs encoded a second time, since an encoder was lost.",
}


def staged(work: Callable[[pa.Table], pa.Table], given: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return what a stage makes of a table, or a row that says why it could not."""
    failure = next(filter(None, given[FAILURE].to_pylist()), None) if FAILURE in given.column_names else None
    if failure is None:
        try:
            made = work(given)
            return made.append_column(FAILURE, pa.nulls(len(made), pa.string()))
        except Exception as error:
            print(hidden(traceback.format_exc()), file=sys.stderr)  # into the worker's own log
            outcome = outcome_of(error)
            failure = json.dumps([str(outcome), platform.node(), getattr(outcome, "trace", None)])
    nothing = {field.name: pa.nulls(1, field.type) for field in schema}
    return pa.table({**nothing, FAILURE: pa.array([failure])})


def results(dataset: "ray.data.Dataset") -> Generator[pa.Table]:
    """Yield the tables of a data set's last stage as it made them, in any order. To be closed by who leaves early.

    Raises:
        IcmBenchError: a stage failed; the sentence is its own.
        FaultError: it failed by a mistake of this package.
    """
    # A generator, whose end is the end of all that Ray runs for it.
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
        # Ray waits for its thread for two seconds. One that outlives the connection starts a Ray that nobody ends.
        for thread in threading.enumerate():
            if thread.name.startswith(EXECUTOR):
                thread.join(MAX_SECONDS)


def count(what: str, number: int, device: str = "cpu") -> None:
    """Add to one of `COUNTERS` of this worker; Ray sums them up."""
    if number > 0:
        _counter(what).inc(number, tags={"device": device})


@lru_cache
def _counter(what: str) -> Any:
    from ray.util.metrics import Counter

    return Counter(f"icm_bench_{what}", description=COUNTERS[what], tag_keys=("device",))
