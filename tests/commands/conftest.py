"""What tests of commands share."""

import json
from typing import Any

import pytest

from benchmark.cli import main


class Command:
    """`icm-bench` in the test's own process; words may be paths."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object, code: int = 0) -> Any:
        """Run it to this exit code, and return what it printed: `out`, `err`."""
        self.capsys.readouterr()
        assert main([str(word) for word in words]) == code
        return self.capsys.readouterr()

    def json(self, *words: object) -> Any:
        """Return the JSON that it prints."""
        return json.loads(self(*words, "--json").out)

    def refused(self, *words: object) -> str:
        """Return the one sentence with which it ends."""
        [said] = [line for line in self(*words, code=2).err.splitlines() if line.startswith("icm-bench: ")]
        return said.removeprefix("icm-bench: ")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, whose output is read."""
    return Command(capsys)
