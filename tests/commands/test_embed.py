"""The embedding stage: what it waits for, and what is made beside."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark.commands import embed
from benchmark.embedding.speed import EmbedReport
from tests.conftest import REPOSITORY
from tests.test_cli import write_recipe


@pytest.mark.parametrize(
    ("engine", "pairs", "order"),
    [
        ("torch", None, ["begun", "waited", "embedded", "waited"]),
        ("openvino", "pairs.parquet", ["begun", "waited", "embedded", "waited"]),
        ("openvino", None, ["begun", "embedded", "waited"]),
    ],
)
def test_texts_are_made_beside_converted_towers_and_before_other_encoders(
    engine: str, pairs: str | None, order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoders on PyTorch hold the texts' side too: memory would have the backbone twice. Pairs of texts may fail."""
    done: list[str] = []

    def step(name: str, said: str, answer: object) -> None:
        def done_now(*_: object) -> object:
            done.append(said)
            return answer

        monkeypatch.setattr(embed, name, done_now)

    step("begin_texts_of", "begun", [0])
    step("wait_for", "waited", None)
    step("embed_views", "embedded", EmbedReport(images=0))
    subject = SimpleNamespace(backbone=SimpleNamespace(engine=engine), views=(), text_pairs=pairs)
    run = SimpleNamespace(subjects=(subject,), embedded=(subject,))
    assert len(embed.embed_stage(run)) == 1  # type: ignore[arg-type]
    assert done == order


# The command on a Ray that declares a GPU, as one does beside a driver that is too old or a CPU build of PyTorch.
DECLARED = """
import functools, sys, ray
ray.init = functools.partial(ray.init, num_cpus=1, num_gpus=1)
from benchmark.cli import main
from benchmark.commands.cluster import doctor
doctor.LIMIT = doctor.TIMEOUT = 90.0  # of a busy machine
sys.exit(main())
"""


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="PyTorch can use a GPU")
def test_a_gpu_that_is_declared_and_cannot_be_used_is_refused(
    tmp_path: Path, toy_root: Path, tiny_random: dict[str, Any]
) -> None:
    recipe = write_recipe(tmp_path, toy_root, tiny_random)
    for words, code in ((["doctor"], 2), (["embed", recipe], 2), (["embed", recipe, "--set", "run.device=cpu"], 0)):
        done = subprocess.run(
            [sys.executable, "-c", DECLARED, *words], capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
        assert done.returncode == code, done.stderr
        if code:
            [said] = [line for line in done.stderr.splitlines() if line.startswith("icm-bench: ")]
            for sought in ("Ray declares 1 GPU ", f"PyTorch {torch.__version__}", "driver", "run.device: cpu"):
                assert sought in said
            assert not [*(tmp_path / "store" / "embeddings").rglob("*.parquet")]
    assert [*(tmp_path / "store" / "embeddings").rglob("*.parquet")]
