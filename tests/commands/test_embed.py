"""The embedding stage: what it waits for, and what is made beside."""

from types import SimpleNamespace

import pytest

from benchmark.commands import embed
from benchmark.embedding.speed import EmbedReport


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
