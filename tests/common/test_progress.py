"""What is seen of long work: much on a terminal, a line every half minute in a log."""

import io

import pytest

from benchmark.common.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "lines"), [(io.StringIO(), 4), (Terminal(), 119)])
def test_a_log_has_a_line_every_half_minute(stream: io.StringIO, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmark.common.progress.time.monotonic", lambda: now[0])
    progress = Progress("embedding", 240, "images", stream)
    for second in range(1, 121):
        now[0] = float(second)
        progress.update(2)
    text = stream.getvalue()
    assert text.count("images/s") == lines
    assert "embedding: 60/240 images, 2.0 images/s, 90 s left" in text
