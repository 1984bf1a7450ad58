"""The example that writes pairs of texts: a real endpoint on the loopback, and captions that images say themselves."""

import json
import runpy
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.commands.preparing.text_pairs import read_text_pairs, text_pairs_of
from benchmark.datasets.manifest import read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.recipe.loading import parse_recipe
from tests.conftest import EXAMPLES

CLASSES = ("cat", "dog")
KEY = "sk-nobody-may-see-this-1234567890"
Reply = tuple[int, dict[str, str], bytes]  # status, headers, body
Example = Callable[..., str]


def said(text: str | None, finish: str = "stop") -> Reply:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}]}).encode()


def rewritten(caption: str) -> str:
    return caption.replace("on a table", "in the deep snow at night")


def willing(number: int, caption: str) -> Reply:
    """Rewrite, but for four images."""
    unwilling = {1: said("I'm sorry, I can't."), 2: said(None), 3: said(f'"{caption}."'), 4: said("a bird in the snow")}
    return unwilling.get(number, said(f'"{rewritten(caption)}"'))


class Endpoint:
    """An endpoint of OpenAI's protocol: `prompts` and `keys` are of all requests, `reply` answers them."""

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self.keys: set[str | None] = set()
        self.reply: Callable[[int, str], Reply] = willing

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                prompt = body["messages"][0]["content"]
                caption = prompt.rpartition("Caption: ")[2]
                self.prompts.append(prompt)
                self.keys.add(handler.headers["Authorization"])
                status, headers, content = self.reply(int(caption.split()[6]), caption)
                handler.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    handler.send_header(name, value)
                handler.end_headers()
                handler.wfile.write(content)

            def log_message(handler, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


class Reader:
    """Says which class and number the colour of an image stands for."""

    def __init__(self, model: str) -> None:
        assert model == "reader"

    def caption(self, image: Image.Image) -> str:
        red, green, _ = image.getpixel((0, 0))  # type: ignore[misc]
        return f"a photo of a {CLASSES[red // 200]} number {green} on a table"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made = Endpoint()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A data set whose colours say class and number of each image, and one file that is none."""
    for label, name in enumerate(CLASSES):
        for environment in range(2):
            folder = tmp_path / "images" / f"env{environment}" / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (200 * label, 4 * environment + number, 0)).save(folder / f"{number}.png")
    (tmp_path / "images" / "env0" / "cat" / "bad.png").write_bytes(b"no image")
    return tmp_path / "images"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], endpoint: Endpoint) -> Example:
    """Return what runs the example on images and gives what it prints."""
    names = runpy.run_path(str(EXAMPLES / "captions.py"))
    main = names["main"]
    monkeypatch.setitem(main.__globals__, "Captioner", Reader)
    monkeypatch.setattr(time, "sleep", lambda _: None)

    def run(images: Path, out: Path, **options: Any) -> str:
        given = {"model": "reader", "endpoint": endpoint.url, "llm": "a-model", "out": out, **options}
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        monkeypatch.setattr(sys, "argv", ["captions.py", str(images), *words])
        main()
        printed = capsys.readouterr()
        assert KEY not in printed.out + printed.err
        return printed.out

    return run


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def recipe_of(images: Path, pairs: Path) -> dict[str, Any]:
    return {
        "name": "captions",
        "datasets": [{"name": "coloured", "root": str(images)}],
        "backbones": [{"name": "ViT-B-32", "pretrained": "random"}],
        "interventions": {"kinds": [], "text": {"pairs": str(pairs)}},
        "sweep": {"intervention_sets": [{"name": "words", "kinds": ["text"]}]},
    }


def test_the_pairs_are_read_by_a_recipe_and_nothing_is_asked_twice(
    example: Example, endpoint: Endpoint, images: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(recipe_of(images, out)))  # JSON is YAML
    assert example(file, out) == f"8 pairs of 17 images in {out}\n"
    manifest = read_manifest(DatasetSpec(name="coloured", root=str(images)))
    pairs = text_pairs_of(parse_recipe(recipe_of(images, out)), manifest)
    rows = {row["image_id"]: row for row in manifest.table.to_pylist()}
    assert len({pair.image_id for pair in pairs}) == len(pairs) == 8
    for pair in pairs:
        assert pair.rewrite == rewritten(pair.caption)
        assert rows[pair.image_id or ""]["class_name"] == pair.class_name
        assert f"a {pair.class_name} number" in pair.caption
    journal = lines(tmp_path / "pairs.jsonl.journal")
    why = sorted(entry["why"].partition(":")[0] for entry in journal if entry["why"])
    assert why == sorted(
        ["cannot be read", *("refused", "empty", "says the same") * 2, "'cat' is gone", "'dog' is gone"]
    )
    assert (len(endpoint.prompts), endpoint.keys) == (16, {f"Bearer {KEY}"})
    assert KEY not in file.read_text() + out.read_text() + (tmp_path / "pairs.jsonl.journal").read_text()
    written = out.read_bytes()
    example(file, out)
    assert len(endpoint.prompts) == 16
    assert out.read_bytes() == written
    example(file, out, llm="another-model")
    assert len(endpoint.prompts) == 32


def test_a_run_that_was_ended_goes_on(example: Example, endpoint: Endpoint, images: Path, tmp_path: Path) -> None:
    out, journal = tmp_path / "pairs.jsonl", tmp_path / "pairs.jsonl.journal"
    example(images, out)
    assert len(read_text_pairs(out, "of any name")) == 8  # a folder's pairs are of no data set
    written, kept = out.read_bytes(), journal.read_bytes().splitlines(keepends=True)
    out.unlink()
    journal.write_bytes(b"".join(kept[:9]) + kept[9][:-20])
    endpoint.prompts.clear()
    example(images, out)
    assert len(endpoint.prompts) == 17 - 9 - sum(b"cannot be read" in line for line in kept[9:])
    assert out.read_bytes() == written


@pytest.mark.parametrize(
    "reply",
    [(500, {}, b"oops"), (429, {}, b""), (200, {}, b"no JSON"), (200, {}, b"[]"), (200, {}, b'{"choices": []}')],
)
def test_what_passes_is_waited_for(
    reply: Reply, example: Example, endpoint: Endpoint, images: Path, tmp_path: Path
) -> None:
    asked = set[str]()

    def at_last(number: int, caption: str) -> Reply:
        again = caption in asked
        asked.add(caption)
        return willing(number, caption) if again else reply

    endpoint.reply = at_last
    assert example(images, tmp_path / "pairs.jsonl").startswith("8 pairs of 17 images")
    endpoint.reply = lambda *_: reply
    with pytest.raises(SystemExit, match=r"does not answer .*; run again later: what was answered is kept"):
        example(images, tmp_path / "others.jsonl")


@pytest.mark.parametrize("status", [401, 404, 307])
def test_what_waiting_does_not_mend_is_told_at_once_and_without_the_key(
    status: int, example: Example, endpoint: Endpoint, images: Path, tmp_path: Path
) -> None:
    endpoint.reply = lambda *_: (status, {"Location": f"{endpoint.url}/chat/completions"}, KEY.encode())
    with pytest.raises(SystemExit, match=f"refuses requests with HTTP {status}") as error:
        example(images, tmp_path / "pairs.jsonl")
    assert KEY not in str(error.value)
    assert len(endpoint.prompts) <= 8  # none was sent again, and no redirect followed


def word_tokenizer(folder: Path, words: Sequence[str]) -> int:
    """Save a tokenizer of few words, and return their number."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    all_ = ["<pad>", "<eos>", "<unk>", *words]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(all_)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return len(all_)


def test_a_model_of_transformers_captions_images(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ("a", "dog", "in", "the", "snow", "on", "grass", "at", "night", "red", "blue")
    size = word_tokenizer(tmp_path, words)
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BlipConfig(
        text_config={**small, "vocab_size": size, "encoder_hidden_size": 16, "bos_token_id": 3, "eos_token_id": 1,
                     "sep_token_id": 1, "pad_token_id": 0},
        vision_config={**small, "image_size": 32, "patch_size": 16},
    )  # fmt: skip
    transformers.BlipForConditionalGeneration(config).save_pretrained(tmp_path)
    transformers.BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    captioner = runpy.run_path(str(EXAMPLES / "captions.py"))["Captioner"](str(tmp_path))
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    caption = captioner.caption(Image.fromarray(noise))
    assert caption
    assert set(caption.split()) <= set(words)
