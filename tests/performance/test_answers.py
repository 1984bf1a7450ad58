"""The verdict of simulations is that of the project's own rows and report."""

import numpy as np
import pytest

from reports.analysis.findings import Expected
from tests.performance import bench_credit
from tests.performance.answers import found
from tests.performance.in_process import found as reported
from tests.performance.in_process import trials_on


@pytest.mark.parametrize("kind", bench_credit.KINDS)
def test_simulations_find_what_the_report_finds(kind: str) -> None:
    world, lender = bench_credit.subjects()
    trials = trials_on(bench_credit.RECIPE, (world.subject, lender.subject), "zero_shot", "d")
    images, other = bench_credit.drawn_world(kind, 1, world, lender)
    expected = reported(*images.rows(trials, other), Expected(held_out="d"))
    fast = found(images, other, bench_credit.DESIGN).verdict
    assert fast.found == expected.found
    numbers = {
        name: {(c.method.label, c.baseline.label, c.rule): (c.interval.estimate, c.interval.p) for c in one.compared}
        for name, one in (("fast", fast), ("report", expected))
    }
    assert numbers["fast"].keys() == numbers["report"].keys()
    for key, values in numbers["report"].items():
        np.testing.assert_allclose(numbers["fast"][key], values, rtol=1e-9, atol=1e-12)


def test_interventions_that_carry_no_shift_are_not_credited_and_means_that_do_are() -> None:
    shares = bench_credit.counts(bench_credit.CLAIMED, 80).parts
    assert shares.get("interventions", 0.0) <= bench_credit.BOUND
    assert shares["environments"] > 0.4
