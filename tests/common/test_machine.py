"""The peak of matrix products: measured once, remembered, and never from a damaged file."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmark.common import machine


@pytest.mark.parametrize(
    ("flags", "expected"), [("avx512f avx512_bf16", True), ("amx_bf16", True), ("avx512f", False), (None, False)]
)
def test_processors_that_multiply_bfloat16_are_known_by_their_flags(
    flags: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system tells none, none does."""
    told = f"model name : X\nflags\t\t: fpu {flags} sse\n" if flags else FileNotFoundError()
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=[told]))
    assert machine.multiplies_bfloat16.__wrapped__() is expected
