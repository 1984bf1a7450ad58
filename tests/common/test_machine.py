"""The peak of matrix products: measured once, remembered, and never from a damaged file."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmark.common import machine


def test_the_peak_is_measured_once_for_each_precision_and_again_where_the_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path))
    measured: list[str] = []

    def measure(_: str, precision: str) -> float:
        measured.append(precision)
        return 1e9 * len(measured)

    monkeypatch.setattr(machine, "_measured_gemm", measure)
    assert [machine.gemm_peak("cpu", "float32") for _ in range(2)] == [1e9, 1e9]
    assert machine.gemm_peak("cpu", "bfloat16") == 2e9
    [file, _] = sorted((tmp_path / "engines").iterdir(), key=lambda place: place.stat().st_mtime_ns)
    file.write_text("{")
    assert machine.gemm_peak("cpu", "float32") == 3e9
    assert measured == ["float32", "bfloat16", "float32"]


def test_a_product_counts_a_multiplication_and_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(seconds)))
    assert machine._measured_gemm("cpu", "float32") == 2 * 1024**3  # one product, of one second


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
