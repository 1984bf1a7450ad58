"""`icm-bench run`: embed, sweep, report. Each stage reads only the output of the stage before it."""

import time

from benchmark.commands.embed import embed_stage
from benchmark.commands.preparing.prepare import Notify, notify_on_stderr, prepared
from benchmark.commands.report import Options, Outcome, report_stage
from benchmark.commands.stores import with_copies
from benchmark.commands.sweep import sweep_stage
from benchmark.common.storage.files import Storage
from benchmark.recipe.recipe import Recipe
from benchmark.store.costs import START, Cost


def run(
    recipe: Recipe, notify: Notify = notify_on_stderr, began: float | None = None, asked: Options | None = None
) -> Outcome:
    """Embed, sweep and report, as `icm-bench run` does. Finished work in the store is not repeated.

    Args:
        recipe: the recipe.
        notify: function that receives each progress message. Default: it is printed on standard error.
        began: time (seconds since 1970) from which the time to the first embedding is counted. Default: now.
        asked: options of the report. Default: `Options()`.

    Raises:
        IcmBenchError: an error that the user can fix, such as a missing data set; finished work is kept.
    """
    began = began or time.time()
    if recipe.run.out:
        Storage(recipe.run.out).check_writable()  # before hours of work, not after them
    with with_copies(recipe):
        with prepared(recipe, notify) as run:
            run.remember([Cost(START, 1, time.time() - began)])
            embedded = embed_stage(run, began)
            sweep_stage(run)
        return report_stage(run.recipe, run.storage, run.subjects, embedded, asked)
