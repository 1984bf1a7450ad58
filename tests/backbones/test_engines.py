"""Engines: equal results, the choice between them, and notes if one cannot run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import open_clip
import pytest
import torch

from benchmark.backbones import engines
from benchmark.backbones.describe import with_engine
from benchmark.backbones.engines import Tower, casts_weights, is_converted
from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.common import conversion
from benchmark.common.errors import IcmBenchError
from benchmark.embedding.encoder import Encoder
from benchmark.store.embeddings import view_of
from tests.conftest import REPOSITORY, TINY_CLIP

SpecOf = Callable[..., BackboneSpec]
# Families of image towers, as small as they come: a transformer, CLIP's ResNet with attention pooling, timm's nets.
VISION = {
    "transformer": TINY_CLIP["vision_cfg"],
    "resnet": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64},
    "timm": {
        "timm_model_name": "test_efficientnet", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear",
        "image_size": 64,
    },
}  # fmt: skip


@pytest.fixture
def spec_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SpecOf:
    """Return a function that builds a backbone of a family with random weights; the cache is empty."""
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))

    def make(family: str = "transformer", **fields: Any) -> BackboneSpec:
        folder = tmp_path / family
        folder.mkdir(exist_ok=True)
        config = {"model_cfg": {**TINY_CLIP, "vision_cfg": VISION[family]}, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        return BackboneSpec(name=family, folder=str(folder), pretrained="random", **fields)

    return make


def images(spec: BackboneSpec, n: int = 5) -> torch.Tensor:
    size = Backbone(spec.model_copy(update={"engine": "torch"})).preprocess["size"]
    return torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / norms)


@pytest.mark.parametrize("family", VISION)
def test_engines_give_the_same_numbers_of_single_precision_in_any_batch(family: str, spec_of: SpecOf) -> None:
    pixels = images(spec_of(family))
    in_torch, in_openvino = (Backbone(spec_of(family, engine=name)) for name in ("torch", "openvino"))
    expected = in_torch.encode_images(pixels)
    found = in_openvino.encode_images(pixels)
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    np.testing.assert_array_equal(in_openvino.encode_images(pixels), found)  # the same again
    alone = in_openvino.encode_images(pixels[:1])
    np.testing.assert_allclose(alone, found[:1], rtol=0, atol=1e-5 * np.abs(found).max())
    again = Backbone(spec_of(family, engine="openvino"))  # from the cache
    np.testing.assert_array_equal(again.encode_images(pixels), found)
    assert in_torch.facts.identity() == in_openvino.facts.identity()
    assert in_torch.facts.label == in_openvino.facts.label


class Unlike(Tower):
    """A tower that a trace of a batch of two does not have: of single images, or where pixels are white, or at all."""

    def __init__(self, where: str) -> None:
        torch.nn.Module.__init__(self)
        self.where = where

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        means = pixels.float().mean((2, 3))
        if self.where == "nowhere":
            return torch.log(means - 1000)
        other = len(pixels) == 1 if self.where == "one" else bool(means.max() > 250)
        return -means if other else means


@pytest.mark.parametrize("where", ["one", "white", "nowhere"])
def test_a_tower_that_a_trace_does_not_have_is_left_to_pytorch(where: str, spec_of: SpecOf) -> None:
    facts = replace(Backbone(spec_of(engine="torch")).facts, fingerprint=where)
    with pytest.raises(IcmBenchError, match=r"cannot run this model \(.*converted model differ\); engine: torch can\."):
        engines.on_openvino(facts, lambda: Unlike(where))
    assert not is_converted(facts)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_converted_tower_embeds_without_weights(
    precision: str, spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(engine="openvino", precision=precision)
    pixels, backbone = images(spec), Backbone(spec)
    view = view_of("data", len(pixels), {}, None, seed=0)
    assert not is_converted(backbone.facts)
    expected = backbone.encode_images(pixels)
    assert is_converted(backbone.facts)
    monkeypatch.setattr(Backbone, "__init__", Mock(side_effect=AssertionError("weights are loaded")))
    encoder = Encoder(spec, backbone.facts, [view], 4, threads=None, compile_model=False)
    np.testing.assert_array_equal(encoder._forward(pixels).numpy(), expected)
    with pytest.raises(AssertionError, match="weights are loaded"):  # of others there is no converted tower
        Encoder(spec, replace(backbone.facts, fingerprint="0"), [view], 4, threads=None, compile_model=False)


def test_both_engines_run_on_the_same_weights_of_single_precision(
    spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_torch, expected = Backbone(spec_of(engine="torch")), Backbone(spec_of(engine="openvino"))
    pixels = images(spec_of())
    found = in_torch.encode_images(pixels)
    monkeypatch.setattr(Backbone, "__init__", Mock(side_effect=AssertionError("loaded again")))
    in_openvino = in_torch.in_openvino()
    np.testing.assert_array_equal(in_openvino.encode_images(pixels), expected.encode_images(pixels))
    np.testing.assert_array_equal(in_torch.encode_images(pixels), found)
    assert in_openvino.facts == expected.facts
    with pytest.raises(AssertionError, match="loaded again"):  # cast weights cannot be cast back
        Backbone.in_openvino(SimpleNamespace(spec=spec_of(precision="bfloat16")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "precision"), [("torch", "bfloat16"), ("torch", "float16"), ("openvino", "bfloat16")]
)
def test_low_precision_stays_close_and_has_embeddings_of_its_own(engine: str, precision: str, spec_of: SpecOf) -> None:
    pixels = images(spec_of())
    expected = Backbone(spec_of(engine="torch")).encode_images(pixels)
    low = Backbone(spec_of(engine=engine, precision=precision))
    found = low.encode_images(pixels)
    assert (found != expected).any()
    assert (cosines(found, expected) > 0.999).all()
    np.testing.assert_array_equal(low.encode_images(pixels), found)
    assert low.facts.identity()["engine"] == engine
    assert ("openvino" in low.facts.label) == (engine == "openvino")


def test_weights_of_transformers_are_cast_and_convolutions_are_left_to_autocast(spec_of: SpecOf) -> None:
    for family in VISION:
        module = Backbone(spec_of(family, engine="torch", precision="bfloat16")).encoder.module
        weight = next(p for p in module.parameters() if p.ndim > 1)
        assert weight.dtype == (torch.bfloat16 if family == "transformer" else torch.float32)
        assert casts_weights(module) == (family == "transformer")


def test_cast_weights_are_those_of_open_clip_itself(spec_of: SpecOf) -> None:
    spec = spec_of(engine="torch", precision="bfloat16")
    pixels, backbone = images(spec), Backbone(spec)
    model = open_clip.create_model(f"local-dir:{spec.folder}", load_weights=False).eval()
    model.load_state_dict(Backbone(spec_of(engine="torch")).encoder.module.state_dict())
    mean, std = (torch.tensor(backbone.preprocess[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = model.bfloat16().encode_image(((pixels / 255 - mean) / std).bfloat16()).float().numpy()
    assert (cosines(backbone.encode_images(pixels), expected) > 1 - 1e-4).all()


ENCODERS = """
import json, signal, sys
from benchmark.backbones.facts import BackboneFacts
from benchmark.backbones.spec import BackboneSpec
from benchmark.embedding.encoder import Encoder
spec, facts = BackboneSpec.model_validate_json(sys.argv[1]), BackboneFacts(**json.loads(sys.argv[2]))
encoders = [Encoder(spec, facts, (), None, 1, False) for _ in range(2)]
print(sys.modules["openvino"].__name__, sys.modules["openvino_telemetry"])
print({"open_clip", "transformers", "timm"} & set(sys.modules))
while encoders:  # they end in the order in which they began
    del encoders[0]
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_a_converted_tower_needs_torch_alone_tells_nobody_and_hears_interrupts(spec_of: SpecOf, tmp_path: Path) -> None:
    """In a process that imports OpenVINO first: it would report that, and keep a number for this machine."""
    backbone = Backbone(spec_of(engine="openvino"))
    backbone.embed(torch.zeros((1, 3, *backbone.preprocess["size"]), dtype=torch.uint8))  # converts it
    (home := tmp_path / "home").mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "TF_BUILD", "JENKINS_URL")}
    words = [backbone.spec.model_dump_json(), json.dumps(asdict(backbone.facts))]
    run = subprocess.run(
        [sys.executable, "-c", ENCODERS, *words],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, env={**environment, "HOME": str(home)},
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (0, "openvino None\nset()\nheard\n"), run.stderr
    assert "intel" not in {path.name for path in home.iterdir()}


@pytest.fixture
def throughputs(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Stands for the measurement of both engines, of which OpenVINO is the faster one."""
    measured = Mock(return_value={"torch": 10.0, "openvino": 21.0})
    monkeypatch.setattr(engines, "throughputs", measured)
    return measured


def test_auto_takes_the_faster_one_measures_once_and_says_so(spec_of: SpecOf, throughputs: Mock) -> None:
    facts = with_engine(spec_of(precision="bfloat16"))
    assert facts.engine == "openvino"
    assert "torch 10.0 and openvino 21.0 images/s" in facts.notes[-1]
    assert facts == with_engine(spec_of(precision="bfloat16"))
    assert throughputs.call_count == 1
    throughputs.return_value = {"torch": 21.0, "openvino": 10.0}
    assert with_engine(spec_of()).engine == "torch"  # of another precision nothing is known yet
    assert with_engine(spec_of(engine="openvino")).engine == "openvino"  # what is asked for is done
    assert not any("measured" in note for note in with_engine(spec_of(engine="torch")).notes)


def test_a_damaged_memory_is_measured_anew(spec_of: SpecOf, throughputs: Mock, tmp_path: Path) -> None:
    with_engine(spec_of())
    [memory] = (tmp_path / "cache" / "engines").glob("fastest-*.json")
    memory.write_text("[")
    assert with_engine(spec_of()).engine == "openvino"
    assert throughputs.call_count == 2


def test_engines_are_timed_in_turn() -> None:
    calls: list[str] = []
    found = engines.throughputs({name: lambda _, name=name: calls.append(name) for name in "ab"}, (8, 8))  # type: ignore[misc]
    assert set(found) == {"a", "b"}
    assert all(rate > 0 for rate in found.values())
    assert calls == ["a", "b"] * 4


def test_pytorch_takes_over_where_openvino_cannot(spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_check_outputs", Mock(side_effect=RuntimeError("no rule for aten::new\nmore")))
    facts = with_engine(spec_of(engine="openvino"))
    assert facts.engine == "torch"
    assert "OpenVINO cannot run this model (no rule for aten::new); engine: torch can" in facts.notes[-1]


def test_without_openvino_auto_is_pytorch_and_the_wish_is_answered(
    spec_of: SpecOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "openvino_missing", lambda: True)
    assert with_engine(spec_of()).engine == "torch"
    facts = with_engine(spec_of(engine="openvino"))
    assert facts.engine == "torch"
    assert "pip install 'icm-bench[cpu]'" in facts.notes[-1]
