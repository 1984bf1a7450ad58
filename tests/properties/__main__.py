"""Draws of inputs, one after another, in a process with bounded memory: `make fuzz`, or by hand

python -m tests.properties [--draws N] [--fixed] [--kind KIND ...]

Ends by itself. A draw with a bad answer is made as small as it gets and printed; put it into `tests/properties/found.py`.
"""

import argparse
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, cast

SECONDS = 240  # of one draw, on a machine that does much else
GIB = 6  # of address space, beyond what the imports have taken
KEPT_OUT = {  # no draw asks anyone beyond this machine
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_EC2_METADATA_DISABLED": "true", "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
}  # fmt: skip


def bounded() -> None:
    """Bound the memory of this process, and let a draw that takes too long raise."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB * 2**30, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, _too_long)


class TooLongError(AssertionError):
    """A draw has no answer within `SECONDS`."""


def _too_long(*_: Any) -> None:
    raise TooLongError(f"no answer within {SECONDS} s")


def stand_ins() -> None:
    """Let facts of backbones be found in this process, and no command start Ray."""
    import ray

    from benchmark.backbones import describe
    from benchmark.common.errors import IcmBenchError
    from tests.described import Described
    from tests.properties.judged import STOPPED

    def no_ray(*_: Any, **__: Any) -> None:
        raise IcmBenchError(STOPPED)

    describe._start = cast(Any, Described)
    ray.init = no_ray


def main() -> int:
    """Run the draws, print a line for each kind, and return how many kinds have a bad answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2_000, help="of all kinds together; default: %(default)s")
    parser.add_argument("--fixed", action="store_true", help="the same draws every time")
    parser.add_argument("--seed", type=int, help="of these draws, with --fixed; default: that of Hypothesis")
    parser.add_argument("--kind", action="append", help="this one alone; may be given again")
    args = parser.parse_args()
    os.environ.update(KEPT_OUT)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ICM_BENCH_CACHE"] = str(Path(folder, "cache"))
        return _run(Path(folder), args)


def _run(folder: Path, args: argparse.Namespace) -> int:
    from tests.properties.drawn import KINDS, SHARE
    from tests.properties.found import FOUND
    from tests.properties.judged import Lab

    stand_ins()
    lab, bad = Lab(folder), 0
    bounded()
    rest = (1 - sum(SHARE.values())) / (len(KINDS) - len(SHARE))
    for draw in () if args.kind else FOUND:
        Tried(lab, folder, 1)(draw)
    for kind in args.kind or KINDS:
        share = 1 if args.kind else SHARE.get(kind, rest)
        began, tried = time.monotonic(), Tried(lab, folder, round(args.draws * share))
        error = searched(tried, KINDS[kind], args.fixed, args.seed)
        bad += error is not None
        print(f"{kind}: {dict(tried.codes)} in {time.monotonic() - began:.1f} s", *filter(None, [error]), flush=True)
    return min(bad, 1)


class Tried:
    """Answers to draws of a kind are good: each draw is tried once, since Hypothesis draws many again, and so many of them."""

    def __init__(self, lab: Any, folder: Path, count: int) -> None:
        self._lab, self._note, self.count = lab, folder / "draw", count
        self._known: dict[str, BaseException | None] = {}
        self.codes: Counter[Any] = Counter()

    def __call__(self, draw: Any) -> None:
        from tests.properties.judged import judge

        name = repr(draw)
        if name not in self._known and len(self._known) < self.count + 100 * any(self._known.values()):
            self._note.write_text(name, errors="replace")  # who ends this process is found there
            self._known[name] = None
            signal.alarm(SECONDS)
            try:
                answer = self._lab.answer(draw)
                self.codes[answer.code] += 1
                judge(draw, answer)
            except Exception as error:
                self._known[name] = error
            finally:
                signal.alarm(0)
        if known := self._known.get(name):
            raise known


def searched(tried: Tried, strategy: Any, fixed: bool, first: int | None = None) -> str | None:
    """Try draws; return what was found, with the smallest example; None where all answers are good."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    limits = settings(
        max_examples=5 * tried.count, derandomize=fixed and first is None, database=None, deadline=None, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    test = limits(given(draw=strategy)(lambda draw: tried(draw)))
    if first is not None or not fixed:
        test = seed(int.from_bytes(os.urandom(4)) if first is None else first)(test)
    try:
        test()
    except Exception as error:  # an ExceptionGroup where there are several
        return "".join(["\n", *traceback.format_exception(error, limit=-3)])
    return None


if __name__ == "__main__":
    sys.exit(main())
