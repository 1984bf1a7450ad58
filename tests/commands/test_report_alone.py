"""A report is made of rows alone: nothing that computes embeddings or fits is imported for it."""

import subprocess
import sys

from tests.conftest import REPOSITORY

HEAVY = ("ray", "torch", "torchvision", "sklearn", "open_clip", "requests", "urllib3", "scipy.stats")


def test_a_report_imports_neither_ray_nor_torch_nor_the_network() -> None:
    code = (
        "import sys, benchmark.commands.report, benchmark.commands.stores, benchmark.recipe.loading, reports.build\n"
        f"print(*({{*{HEAVY}}} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
