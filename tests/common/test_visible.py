"""Names that would steer a terminal are shown as what they are, and nothing of them is lost."""

import io
import sys
from contextlib import redirect_stdout

import pytest

from benchmark.common.terminal.escaping import escape_control, one_line, safe_output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "U+001B[31mredU+001B[0m"),
        ("title\x1b]0;owned\x07", "titleU+001B]0;ownedU+0007"),
        ("over\rwritten\b", "overU+000DwrittenU+0008"),
        ("\u202egnp.tac", "U+202Egnp.tac"),
        ("c\u200bat \ufeff\u2066x\u2069", "cU+200Bat U+FEFFU+2066xU+2069"),
        ("bad\udcff.png", "badU+DCFF.png"),
        ("\x9b31m \x85", "U+009B31m U+0085"),
        ("été λ 中文 👩‍🔬 نعم", "été λ 中文 👩‍🔬 نعم"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_its_number(text: str, shown: str) -> None:
    assert escape_control(text) == shown
    assert one_line(f" {shown} ") == " ".join(shown.split())


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Screen(), io.StringIO()])
def test_only_what_this_package_uses_steers_and_only_a_terminal(stream: io.StringIO) -> None:
    with redirect_stdout(stream), safe_output():
        sys.stdout.write("\r\x1b[Kembedding: 1/2")
        print("\x1b[1ma line in bold\x1b[0m")
        print("\x1b[1mbold \x1b[1m \x1b[2J \x1b]8;;http://x\x07 \r\x1b[Knot at a start")
    shown = stream.getvalue()
    ours = "\r\x1b[K", "\x1b[1m", "\x1b[0m"
    rest = shown
    for one in ours:
        rest = rest.replace(one, "", 1) if stream.isatty() else rest
    assert rest.count("\x1b") == rest.count("\r") == rest.count("\x07") == 0
    assert shown.count("\x1b") == (3 if stream.isatty() else 0)
