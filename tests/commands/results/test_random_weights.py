"""`icm-bench publish`: rows of an encoder with random weights are no result."""

from pathlib import Path

from tests.commands.conftest import Command
from tests.conftest import Swept
from tests.results.conftest import WHO


def test_random_weights_are_refused(swept_toy: Swept, tmp_path: Path, command: Command) -> None:
    said = command.refused("publish", swept_toy.file, "--to", tmp_path / "results", *WHO)
    assert "RANDOM WEIGHTS" in said or "random" in said
    assert "is no result and is not published; remove it from the recipe's backbones" in said
    assert not (tmp_path / "results").exists()
