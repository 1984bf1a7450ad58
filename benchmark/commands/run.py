"""The stages of a run in their order: embed, sweep, report. Each reads only what the one before wrote.

This module alone knows all rooms; it reaches `reports` last, and only to write down what the rows say.
"""

import time

from benchmark.commands.embed import embed_stage
from benchmark.commands.prepare import Notify, notify_on_stderr, open_store, prepared
from benchmark.commands.report import Outcome, report_stage
from benchmark.commands.sweep import sweep_stage
from benchmark.common.storage import Storage
from benchmark.recipe.recipe import Recipe


def run(recipe: Recipe, notify: Notify = notify_on_stderr, began: float | None = None) -> Outcome:
    """Embed, sweep and report: what `icm-bench run` does. Finished work is found in the store and not done again.

    Args:
        recipe: what to do.
        notify: takes each line for the person who watches.
        began: time of day from which the time to the first embedding counts; by default now.

    Raises:
        IcmBenchError: whatever the user can put right, in one sentence; finished work is kept.
    """
    began = began or time.time()
    storage = open_store(recipe)
    if recipe.run.out:
        Storage(recipe.run.out).check_writable()  # before hours of work, not after them
    with prepared(recipe, storage, notify) as subjects:
        embedded = embed_stage(recipe, storage, subjects, notify, began)
        sweep_stage(recipe, storage, subjects, notify)
    return report_stage(recipe, storage, [subject for subject, _ in subjects], embedded)
