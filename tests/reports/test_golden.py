"""Golden files of a report: 2 data sets x 2 backbones x 3 protocols with invented correctness.

`python -m tests.reports.test_golden` regenerates them; read the diff before committing.
"""

import base64
import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.common.storage.files import Storage
from reports.build import write_report
from reports.text.sentences import Origin
from tests.reports.synthetic import TESTED, frame, row

GOLDEN = Path(__file__).parent / "golden"
FILES = ("report.md", "tables/verdicts.csv", *(f"tables/main.{suffix}" for suffix in ("md", "tex", "csv", "json")))
PAGE = "page_data.txt"
_ENVIRONMENTS = {"alpha": ("art", "photo", "sketch"), "beta": ("day", "night")}
_METHODS: dict[str, tuple[str | None, tuple[float, float]]] = {  # accuracies at rank 2 and at rank 4, the full space
    "identity": (None, (0.0, 0.55)),
    "pca": (None, (0.53, 0.55)),
    "random": (None, (0.5, 0.55)),
    "icm": ("largest", (0.66, 0.55)),
    "shrinkage": (None, (0.0, 0.62)),
}


def rows() -> list[dict[str, Any]]:
    made = []
    for protocol, half in (("held_out", "all"), ("in_domain", "all"), ("held_out_open_class", "harmonic")):
        for dataset, environments in _ENVIRONMENTS.items():
            for backbone in ("ViT-B-32", "ViT-L-14"):
                for held_out in environments:
                    shared = {"dataset": dataset, "dataset_fingerprint": dataset, "backbone": backbone}
                    shared |= {"backbone_fingerprint": backbone, "protocol": protocol, "class_half": half}
                    made += _of_test(shared, held_out)
    return made


def _of_test(shared: dict[str, Any], held_out: str) -> list[dict[str, Any]]:
    draws = np.random.default_rng([ord(c) for c in held_out + shared["backbone"]]).random(200)
    noise = np.random.default_rng([ord(c) for c in held_out]).random(200)
    made = []
    for projection, (order, accuracies) in _METHODS.items():
        chosen = accuracies if projection not in ("identity", "shrinkage") else accuracies[1:]
        correct = [(0.9 * draws + 0.1 * noise) < accuracy * 0.9 for accuracy in chosen]
        scores = [0.9, 0.5][: len(chosen)]
        asked: dict[str, Any] = {"training_domain": scores, "lodo": scores, "correct": correct} | shared
        target = [float(np.mean(answers)) for answers in correct]
        made.append(row(held_out=held_out, projection=projection, order=order, target=target, **asked))
        made[-1]["trial_id"] = made[-1]["trial_id"].replace("pca-None", "pca-largest")  # as it is in the files
    return made


def written(place: Path) -> dict[str, str]:
    write_report(frame(rows()), TESTED, Storage(str(place)), "", Origin("golden"))
    files = {name: (place / name).read_text(encoding="utf-8") for name in FILES}
    page = (place / "index.html").read_text(encoding="utf-8")
    blobs = re.findall(r'<script type="[^"]*" id="([^"]+)">([A-Za-z0-9+/=]{40,})</script>', page)
    assert len(blobs) > 8
    data = {name: gzip.decompress(base64.b64decode(packed)) for name, packed in blobs}
    return files | {PAGE: "".join(f"{name} {hashlib.sha256(data[name]).hexdigest()}\n" for name in sorted(data))}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, draws_where_it_is_looked_at: list[bool]) -> dict[str, str]:
    draws_where_it_is_looked_at[0] = True
    return written(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", [*FILES, PAGE])
def test_fixed_rows_give_the_golden_bytes(report: dict[str, str], name: str) -> None:
    assert report[name] == (GOLDEN / name).read_text(encoding="utf-8")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, content in written(Path(folder)).items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_text(content, encoding="utf-8")
