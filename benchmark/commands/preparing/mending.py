"""What is damaged in a store is named and made again, and the work that met it begins anew."""

from collections.abc import Callable, Collection
from typing import TypeVar

from benchmark.commands.preparing.prepare import Run
from benchmark.common.errors import IcmBenchError
from benchmark.store.embeddings import ROOT
from benchmark.store.sealed import GONE, DamagedError
from benchmark.store.upkeep import remove_damaged

T = TypeVar("T")


def mended(run: Run, work: Callable[[], T], embed_again: Callable[[Collection[str]], None]) -> T:
    """Return what some work on a store returns; what it finds damaged is made again, and it begins anew.

    Where a part of a view is damaged, all parts of the data set under that backbone are looked at, since what damaged
    one may have damaged others.

    Args:
        run: whose store it is.
        work: reads the store; what it finds there, it does not do again.
        embed_again: embeds what is missing in some directories of the store by now. What else is missing, such as
            moments and texts, the work makes by itself.

    Raises:
        IcmBenchError: a file is damaged again after it was made again.
    """
    gone, excused = set[str](), set[str]()
    while True:
        try:
            return work()
        except DamagedError as error:
            problems = error.problems
        # Where several commands mend a store at the same moment, one may remove what another has just made again.
        removed_by_others = {name for name, problem in problems.items() if problem == GONE} - excused
        excused |= removed_by_others
        if again := (gone & set(problems)) - removed_by_others:
            name = min(again)
            raise IcmBenchError(
                f"{run.storage.path(name)} {problems[name]}, though it was made again just now: see whether the disk "
                f"or the network behind the store can be trusted, or give another --store."
            )
        directories = {name.rpartition("/")[0] for name in problems if name.startswith(ROOT)}
        for subject in run.embedded:
            of_subject = {view.directory for view in subject.views}
            directories |= of_subject if directories & of_subject else set()
        removed = remove_damaged(run.storage, problems, sorted(directories))
        for name, problem in removed.items():
            run.notify(f"damaged: {run.storage.path(name)} {problem}; it is made again")
        gone |= set(removed)
        embed_again(directories)
