"""Whatever is handed in: right numbers, or one sentence that names the place and exit code 2; no traceback, nothing lost.

The draws of `drawn.py`, in a process of its own whose memory is bounded: it may be killed, and names the draw then.
"""

from pathlib import Path

import pytest

from tests.conftest import Fork

KINDS = ("recipes", "command_lines", "names", "tables", "archives", "parquets", "imports")


def answered(fork: Fork, *options: object, seconds: float) -> str:
    """Run draws, and return what is said of them: a line for each kind."""
    code, said = fork("tests.properties", "--fixed", *options).wait(seconds)
    assert code == 0, said
    return said


def test_two_hundred_inputs_of_seven_kinds_are_answered_well(fork: Fork) -> None:
    said = answered(fork, "--draws", 200, seconds=110)
    assert [line.partition(":")[0] for line in said.splitlines()] == [*KINDS]


@pytest.mark.long("inputs of a kind that none of the fixed two hundred is of")
def test_two_thousand_inputs_are_answered_well(fork: Fork) -> None:
    answered(fork, "--draws", 2_000, "--seed", 1, seconds=550)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_seen_to_fail(kind: str) -> None:
    """A property that holds of anything says nothing: here each kind meets a command that answers badly."""
    from tests.properties.__main__ import searched
    from tests.properties.drawn import KINDS as STRATEGIES
    from tests.properties.judged import Answer, judge

    class Tried:
        count = 3

        def __call__(self, draw: object) -> None:
            bad = Answer(1, "", "Traceback (most recent call last):", {}, {})
            judge(draw, bad)  # type: ignore[arg-type]

    assert "exit code 1" in str(searched(Tried(), STRATEGIES[kind], fixed=True))  # type: ignore[arg-type]


def test_a_draw_that_failed_is_printed_so_that_it_can_be_kept(tmp_path: Path) -> None:
    from tests.properties import contents

    draw = contents.Draw(
        ["plan"], {"t.tar": contents.Tar([("a", contents.Picture(1), b"0")]), "p": contents.Parquet([])}
    )
    assert eval(repr(draw), vars(contents)) == draw  # noqa: S307  as it stands in found.py
    (tmp_path / "p").write_bytes(contents.Embeddings().bytes())
    assert (tmp_path / "p").stat().st_size > 1_000
