"""What is seen of long work: much on a terminal, a line every half minute in a log."""

import io

import pytest

from benchmark.common.terminal.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_rate_is_of_what_was_worked_on_and_not_of_what_was_found_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now, stream = [0.0], io.StringIO()
    monkeypatch.setattr("benchmark.common.terminal.progress.time.monotonic", lambda: now[0])
    progress = Progress("embedding", 300, "views", stream)  # poor-cluster-2
    for seconds, n, worked in ((5.0, 100, 100), (6.0, 100, 0), (10.0, 100, 100)):
        now[0] = seconds
        progress.update(n, worked=worked)
    progress.close()
    assert stream.getvalue() == "embedding: 300 views in 10.0 s (20.0 views/s)\n"


@pytest.mark.parametrize(("stream", "lines"), [(io.StringIO(), 4), (Terminal(), 119)])
def test_a_log_has_a_line_every_half_minute(stream: io.StringIO, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmark.common.terminal.progress.time.monotonic", lambda: now[0])
    progress = Progress("embedding", 240, "images", stream)
    for second in range(1, 121):
        now[0] = float(second)
        progress.update(2)
    text = stream.getvalue()
    assert text.count("images/s") == lines
    assert "embedding: 60/240 images, 2.0 images/s, 90 s left" in text
