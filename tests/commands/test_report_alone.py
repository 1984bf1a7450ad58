"""What needs no embeddings and fits nothing imports nothing that does, and so answers soon."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmark.common.storage.files import Storage
from tests.conftest import REPOSITORY
from tests.performance.bench_report import Invented, of_seeds
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
        (
            "import benchmark.commands.results.publish, benchmark.commands.results.check",
            "ray torch sklearn scipy.stats",
        ),
        (PLAN, "ray torch scipy sklearn matplotlib open_clip"),
        (PROJECTION, "ray torch"),
    ],
    ids=["report", "choose", "publish", "plan", "projection"],
)
def test_nothing_heavy_is_imported(code: str, absent: str, toy_root: Path, tmp_path: Path) -> None:
    write_recipe(tmp_path, toy_root, {"name": "MiniLiT"})
    code += f"\nimport sys\nsys.exit(' '.join({{*{absent.split()}}} & {{*sys.modules}}) or 0)"
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_each_file_of_a_store_is_read_once_and_no_file_for_a_report_that_is_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.commands.report import report_any

    store = of_seeds(Invented(Storage(str(tmp_path / "store"))), 2)
    read: Counter[str] = Counter()
    content = Storage._content

    def counted(self: Storage, name: str, offset: int, length: int | None) -> bytes:
        read[name] += 1
        return content(self, name, offset, length)

    said = {"headline": "", "verdicts": [], "texts": ["Page: ", "Page: "], "paper": "", "note": ""}
    monkeypatch.setattr("reports.build._build", lambda *_: ({"report.md": b"", "index.html": b""}, said))
    monkeypatch.setattr(Storage, "_content", counted)
    for built, files in ((True, 20 + 8), (False, 0)):
        read.clear()
        assert report_any([], [store.storage], {}, out=str(tmp_path / "report")).built == built
        of_rows = [times for name, times in read.items() if name.startswith(("rows/", "tested/"))]
        assert of_rows == [1] * files
