"""One embedding run that a test kills: `python -m tests.embedding.killed_run ROOT STORE LOG [RUN [SECONDS [UNTIL]]]`.

RUN is a JSON of what a recipe has there, SECONDS what an encoder takes for a chunk, until there is a file UNTIL.
"""

import json
import sys
from pathlib import Path

from benchmark.backbones.spec import BackboneSpec
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.specs import RunSpec
from tests.stand_in import FACTS, stand_in, views


def main(root: str, place: str, log: str, run: str = "{}", seconds: str = "0.15", until: str = "") -> None:
    manifest = read_manifest(DatasetSpec(name="toy", root=root))
    spec = BackboneSpec(name="stand-in", pretrained="random")
    encoder = stand_in(float(seconds), Path(log), Path(until) if until else None)
    with connected():
        job = EmbedJob(Storage(place), manifest, spec, FACTS, views(manifest, 2))
        report = embed(job, RunSpec(**json.loads(run)), encoder)
    print(report.text(), file=sys.stderr)
    print(report.embedded, report.reused)


if __name__ == "__main__":
    main(*sys.argv[1:])
