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


def test_the_driver_is_read_from_the_system_else_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "version")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpu_driver() == "no NVIDIA driver found"
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 550.54.15\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert machine.gpu_driver() == "NVIDIA driver 550.54.15"
    version = (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82.01  Wed Oct 27 21:21:55 UTC 2021\nGCC version: 9.4.0\n"
    )
    (tmp_path / "version").write_text(version)
    assert machine.gpu_driver() == "NVIDIA driver 470.82.01"
