"""What needs no embeddings and fits nothing imports nothing that does, and so answers soon."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.test_cli import write_recipe

REPORT = "import benchmark.commands.report, benchmark.commands.stores, benchmark.recipe.loading, reports.build"
PLAN = """
import sys
from benchmark.cli import main
assert main(["plan", sys.argv[1] + "/recipe.yaml"]) == 0
"""
PROJECTION = """
import numpy, pathlib, sys
from benchmark.backbones.projection_files import read_projection, write_projection
folder = pathlib.Path(sys.argv[1])
write_projection(folder, numpy.eye(3)[:, :2], {"backbone": "tiny", "fingerprint": "ab", "normalize": "none"})
assert read_projection(folder).rank == 2
"""


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (REPORT, "ray torch torchvision sklearn open_clip requests urllib3 scipy.stats"),
        ("import benchmark.commands.choose, reports.choose", "ray torch"),
        (PLAN, "ray torch scipy sklearn matplotlib open_clip"),
        (PROJECTION, "ray torch"),
    ],
    ids=["report", "choose", "plan", "projection"],
)
def test_nothing_heavy_is_imported(code: str, absent: str, toy_root: Path, tmp_path: Path) -> None:
    write_recipe(tmp_path, toy_root, {"name": "MiniLiT"})
    code += f"\nimport sys\nsys.exit(' '.join({{*{absent.split()}}} & {{*sys.modules}}) or 0)"
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
