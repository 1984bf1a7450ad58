"""Files needed from the hub are checked before heavy imports, and an unreachable hub gives an error message.

What each family of open_clip needs of the hub beside its weights, by hand: with random weights the first line runs
without a network, every other ends in a sentence that names what must be fetched.
"""

import os
import socket
import ssl
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark.backbones import hub
from benchmark.backbones.models import model_class
from benchmark.backbones.models.open_clip_model import _listed, _tags
from benchmark.backbones.spec import BackboneSpec
from benchmark.cli import main
from benchmark.common.errors import IcmBenchError

Run = Callable[[str, str], int]
SMALLEST = {  # of each family -> what its texts need of the hub
    "ViT-S-32": [], "RN50": [], "EVA02-B-16": [], "convnext_tiny": [], "MobileCLIP-S1": [], "ViTamin-S": [],
    "coca_base": [], "PE-Core-T-16-384": [], "swin_base_patch4_window7_224": [], "MobileCLIP2-S0": [],
    "ViT-B-16-SigLIP": ["tokenizer 'timm/ViT-B-16-SigLIP'"],
    "ViT-B-16-SigLIP-i18n-256": ["tokenizer 'timm/ViT-B-16-SigLIP-i18n-256'"],
    "ViT-B-32-SigLIP2-256": ["tokenizer 'timm/ViT-B-32-SigLIP2-256'"],
    "ViT-L-14-CLIPA": ["tokenizer 'bert-base-uncased'"],
    "ViT-L-14-worldwide": ["tokenizer 'google/mt5-base'"],
    "roberta-ViT-B-32": ["configuration of the text tower 'roberta-base'", "tokenizer 'roberta-base'"],
    "coca_roberta-ViT-B-32": ["configuration of the text tower 'roberta-base'", "tokenizer 'roberta-base'"],
    "xlm-roberta-base-ViT-B-32": ["configuration of the text tower 'xlm-roberta-base'", "tokenizer 'xlm-roberta-base'"],
    "mt5-base-ViT-B-32": ["configuration of the text tower 'google/mt5-base'", "tokenizer 'google/mt5-base'"],
    "nllb-clip-base": ["configuration of the text tower 'facebook/nllb-200-distilled-600M'"],
}  # fmt: skip


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A hub that takes connections and never says a word, and a cache of its client that is empty."""
    import huggingface_hub.constants as constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(hub, "TIMEOUT", 0.2)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        hub.is_reachable.cache_clear()
        yield
        monkeypatch.setenv("HF_HUB_OFFLINE", "")  # so that what was set meanwhile is taken back
    hub.is_reachable.cache_clear()


def random(name: str) -> BackboneSpec:
    return BackboneSpec(name=name, pretrained="random")


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("name", SMALLEST)
def test_every_family_runs_with_random_weights_or_names_what_must_be_fetched(name: str) -> None:
    began, said = time.monotonic(), ""
    try:
        model_class(random(name)).check_available(random(name))
    except IcmBenchError as error:
        said = str(error)
    assert bool(said) == bool(SMALLEST[name])
    assert all(needed in said for needed in SMALLEST[name])
    assert time.monotonic() - began < 10


def test_every_model_that_open_clip_lists_is_of_a_family_that_was_looked_at() -> None:
    """By what their texts are made of: a new kind of model would have to be tried."""
    import open_clip

    def kind(config: dict[str, Any]) -> tuple[bool, bool, bool]:
        text = config["text_cfg"]
        return "hf_model_name" in text, "hf_tokenizer_name" in text, "multimodal_cfg" in config

    folder = Path(open_clip.__file__).parent
    names = [file.stem for file in (folder / "model_configs").glob("*.json")]
    assert len(names) > 100
    kinds = {kind(config) for name in SMALLEST if (config := _listed(random(name)))}
    configs = {name: config for name in names if (config := _listed(random(name)))}
    assert {name for name, config in configs.items() if kind(config) not in kinds} == set()


def test_tags_by_the_source_are_those_of_open_clip() -> None:
    import open_clip

    names = [name for name in open_clip.list_models() if open_clip.list_pretrained_tags_by_model(name)]
    for name in names[::4]:  # each is read from the source anew
        known = {tag: open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)}
        quick = {tag: bool(weights.get("quick_gelu")) for tag, weights in known.items()}
        assert {tag: quick_gelu for tag, (_, quick_gelu) in _tags(name).items()} in (quick, {}), name
    assert _tags("ViT-B-32")["openai"] == ("timm/vit_base_patch32_clip_224.openai", True)


@pytest.fixture
def with_backbone(silent: None, toy_root: Path, tmp_path: Path) -> Run:  # noqa: ARG001
    """Return a function that runs a command with a recipe of one backbone while the hub is unreachable."""

    def run(command: str, backbone: str) -> int:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(f"name: toy\ndatasets: [{{name: toy, root: '{toy_root}'}}]\nbackbones: [{backbone}]\n")
        return main([command, str(recipe), "--store", str(tmp_path / "store")])

    return run


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("{name: ViT-B-32, pretrained: openai}", "The weights 'openai' of 'ViT-B-32' cannot be downloaded (no network"),
        ("{name: 'hf-hub:nobody/nothing'}", "The weights 'hf-hub:nobody/nothing' of"),
        ("{name: 'hf:nobody/nothing'}", "The model 'nobody/nothing' of the Hugging Face hub was not fetched before"),
        ("{name: ViT-B-16-SigLIP, pretrained: random}", "needs the tokenizer 'timm/ViT-B-16-SigLIP'"),
    ],
)
def test_without_a_network_embedding_ends_in_seconds_in_a_sentence_and_leaves_nothing(
    backbone: str, words: str, with_backbone: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    assert with_backbone("embed", backbone) == 2
    assert time.monotonic() - began < 10
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert "what works without a network are" in said[0]
    assert not (tmp_path / "store" / "embeddings").exists()
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # for the processes that are started from here


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("{name: ViT-B-32, pretrained: openia}", "did you mean 'openai'?"),
        ("{name: ViT-B-32, pretrained: /nowhere.pt}", "Unknown pretrained tag '/nowhere.pt' of 'ViT-B-32'"),
        ("{name: ViT-B-33, pretrained: openai}", "Unknown backbone 'ViT-B-33': did you mean 'ViT-B-32'?"),
        ("{name: roberta-ViT-B-32, pretrained: random}", "needs the configuration of the text tower 'roberta-base'"),
    ],
)
def test_a_plan_refuses_what_embedding_would(
    backbone: str, words: str, with_backbone: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_backbone("plan", backbone) == 2
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("silent")
def test_what_was_fetched_before_needs_no_hub(tmp_path: Path) -> None:
    commit = "0" * 40
    folder = tmp_path / "hub" / "models--timm--ViT-B-16-SigLIP"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit).mkdir(parents=True)
    assert not hub.has_cached_weights("timm/ViT-B-16-SigLIP")
    for file in ("tokenizer_config.json", "open_clip_model.safetensors"):
        (folder / "snapshots" / commit / file).write_text("{}")
    assert hub.has_cached_weights("timm/ViT-B-16-SigLIP")
    model_class(random("ViT-B-16-SigLIP")).check_available(random("ViT-B-16-SigLIP"))


@pytest.mark.usefixtures("silent")
def test_weights_of_timm_without_a_hub_are_a_sentence_unless_they_were_fetched(tmp_path: Path) -> None:
    spec = BackboneSpec(name="timm:resnet50")
    with pytest.raises(IcmBenchError, match=r"The weights 'timm/resnet50\.a1_in1k' .* does not answer"):
        model_class(spec).check_available(spec)
    snapshot = tmp_path / "hub" / "models--timm--resnet50.a1_in1k" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_text("{}")
    for at_hand in (
        spec,
        BackboneSpec(name="timm:resnet50", pretrained="random"),
        BackboneSpec(name="timm:resnet50", pretrained=str(snapshot / "model.safetensors")),
        BackboneSpec(name="timm:resnet50.nope"),  # which timm refuses itself, with the tags that it knows
    ):
        model_class(at_hand).check_available(at_hand)


@pytest.mark.parametrize(
    ("reason", "answers"), [(ssl.SSLCertVerificationError("unknown"), True), (OSError("no route"), False)]
)
def test_a_hub_whose_certificate_python_does_not_know_answers(
    monkeypatch: pytest.MonkeyPatch, reason: Exception, answers: bool
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise urllib.error.URLError(reason)

    monkeypatch.setattr("urllib.request.urlopen", refused)
    assert hub._reaches("https://hub.example") is answers


def test_a_variable_that_says_no_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "is_reachable", lambda _: True)
    assert hub.go_offline_unless_reachable()
