"""One embedding run that a test kills: `python -m tests.embedding.killed_run ROOT STORE LOG`."""

import sys
from pathlib import Path

from benchmark.cluster import connected
from benchmark.datasets.manifest import read_manifest
from benchmark.embedding.pipeline import embed
from benchmark.recipe import BackboneSpec, DatasetSpec, RunSpec
from benchmark.storage import Storage
from tests.stand_in import FACTS, stand_in, views

SECONDS = 0.15  # for each chunk


def main(root: str, place: str, log: str) -> None:
    manifest = read_manifest(DatasetSpec(name="toy", root=root))
    spec = BackboneSpec(name="stand-in", pretrained="random")
    encoder = stand_in(SECONDS, Path(log))
    with connected():
        report = embed(Storage(place), manifest, spec, FACTS, views(manifest, 2), RunSpec(), encoder)
    print(report.embedded, report.reused)


if __name__ == "__main__":
    main(*sys.argv[1:])
