"""Files that would run code if anything in them were unpickled, or if code beside them were run, in every reader."""

import io
import json
import pickle
import runpy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data  # noqa: F401  registers types of Arrow that unpickle
import timm
import torch

from benchmark.backbones.loading import Backbone
from benchmark.backbones.spec import BackboneSpec
from benchmark.commands.interchange import embedding_files
from benchmark.commands.interchange.prediction_files import read_predictions
from benchmark.common.storage.files import Storage
from benchmark.datasets.readers.rows import rows_of
from benchmark.demo import minilit
from tests.backbones import towers
from tests.conftest import EXAMPLES, TINY_CLIP


class Evil:
    """Creates a file where it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.ran,)


def in_archive(evil: Evil, file: Path) -> Path:
    torch.save({"weights": evil}, file)
    return file


def as_pickle(evil: Evil, file: Path) -> Path:
    file.write_bytes(pickle.dumps(evil))
    return file


def in_arrays(evil: Evil, file: Path) -> Path:
    """An npz whose arrays have the names of a vision transformer's, and of embeddings."""
    objects = np.array([evil], dtype=object)
    names = ("embedding/kernel", "params/img/embedding/kernel", "image_id", "environment", "class", "embedding")
    np.savez(file, allow_pickle=True, **dict.fromkeys(names, objects))
    return file


class Pickled(pa.ExtensionType):
    """The type of Python objects of Ray Data, as a stranger writes it."""

    def __init__(self, name: str = "ray.data.arrow_pickled_object", said: bytes = b"") -> None:
        self.said = said
        super().__init__(pa.large_binary(), name)

    def __arrow_ext_serialize__(self) -> bytes:
        return self.said


def in_table(evil: Evil, file: Path, name: str = "ray.data.arrow_pickled_object") -> Path:
    """A Parquet file whose columns claim to be Python objects, or to have a shape that is one."""
    cells = pa.array([pickle.dumps(evil)] * 2, pa.large_binary())
    column = pa.ExtensionArray.from_storage(Pickled(name, pickle.dumps(evil)), cells)
    names = ("path", "class", "environment", "image_id", "embedding", "method", "prediction", "held_out", "seed")
    pq.write_table(pa.table(dict.fromkeys(names, column)), file)
    return file


def backbone(**spec: Any) -> object:
    return Backbone(BackboneSpec(**spec), device="cpu").encode_texts(["a dog"])


def open_clip_folder(folder: Path, **text: Any) -> Path:
    config = {**TINY_CLIP, "text_cfg": {**TINY_CLIP["text_cfg"], **text}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return folder


def with_code(folder: Path, ran: Path, **config: Any) -> Path:
    """A folder of transformers whose configuration asks for code that lies beside it."""
    named = {"AutoConfig": "theirs.Theirs", "AutoTokenizer": ["theirs.Theirs", None], "AutoModel": "theirs.Theirs"}
    named |= {"AutoImageProcessor": "theirs.Theirs", "AutoModelForCausalLM": "theirs.Theirs"}
    (folder / "theirs.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Theirs: pass\n")
    for name in ("config", "tokenizer_config", "preprocessor_config"):
        content = {"model_type": "theirs", "auto_map": named, "tokenizer_class": "Theirs", **config}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def transformers_folder(folder: Path, evil: Evil) -> Path:
    """A folder of transformers with pickled weights alone."""
    towers.siglip(folder)
    (folder / "model.safetensors").unlink()
    in_archive(evil, folder / "pytorch_model.bin")
    return folder


def trunk(evil: Evil, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    torch.save(evil, packed)
    monkeypatch.setattr(minilit, "pypi_wheel", lambda *_: Path())
    monkeypatch.setattr(minilit, "read_member", lambda *_: packed.getvalue())
    minilit.Trunk("test_vit", ("", "", ""), "").classifier()


def captioner(model: str) -> object:
    """What captions images in the example."""
    return runpy.run_path(str(EXAMPLES / "captions.py"))["Captioner"](model)


CASES: dict[str, Callable[[Path, Evil], object]] = {
    "bad-2": lambda f, e: backbone(name="timm:test_vit", pretrained=str(in_archive(e, f / "w.pth"))),
    "bad-2-pickle": lambda f, e: backbone(name="timm:test_vit", pretrained=str(as_pickle(e, f / "w.bin"))),
    "bad-2-npz": lambda f, e: backbone(name="timm:test_vit", pretrained=str(in_arrays(e, f / "w.npz"))),
    "open_clip": lambda f, e: backbone(name="ViT-S-32", pretrained=str(in_archive(e, f / "w.pt"))),
    "open_clip-pickle": lambda f, e: backbone(name="ViT-S-32", pretrained=str(as_pickle(e, f / "w.pt"))),
    "open_clip-npz": lambda f, e: backbone(name="ViT-S-32", pretrained=str(in_arrays(e, f / "w.npz"))),
    "open_clip-folder": lambda f, e: (
        in_archive(e, f / "open_clip_pytorch_model.bin"),
        backbone(name="theirs", folder=str(open_clip_folder(f))),
    ),
    "open_clip-tokenizer": lambda f, e: (
        with_code(f, e.ran),
        open_clip_folder(f, hf_tokenizer_name="theirs", tokenizer_kwargs={"trust_remote_code": True}),
        backbone(name="theirs", folder=str(f), pretrained="random"),
    ),
    "open_clip-tower": lambda f, e: (
        open_clip_folder(f, hf_model_name=str(with_code(f, e.ran)), hf_tokenizer_name="theirs"),
        backbone(name="theirs", folder=str(f), pretrained="random"),
    ),
    "transformers": lambda f, e: backbone(name=f"hf:{transformers_folder(f, e)}"),
    "transformers-code": lambda f, e: backbone(name=f"hf:{with_code(f, e.ran)}"),
    "captioner": lambda f, e: captioner(str(transformers_folder(f, e))),
    "captioner-code": lambda f, e: captioner(str(with_code(f, e.ran))),
    "table": lambda f, e: [*rows_of(Storage(str(in_table(e, f / "t.parquet").parent)), "t.parquet")],
    "store": lambda f, e: Storage(str(in_table(e, f / "t.parquet").parent)).read_table("t.parquet").to_pylist(),
    "predictions": lambda f, e: read_predictions(in_table(e, f / "p.parquet")),
    "embeddings": lambda f, e: read_embeddings(in_table(e, f / "e.parquet")),
    "embeddings-npz": lambda f, e: read_embeddings(in_arrays(e, f / "e.npz")),
    "shape-table": lambda f, e: [
        *rows_of(Storage(str(in_table(e, f / "t.parquet", "ray.data.arrow_tensor_v2").parent)), "t.parquet")
    ],
}


def read_embeddings(file: Path) -> None:
    [*embedding_files.blocks(file, {key: key for key in ("image_id", "environment", "class", "embedding")})]


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_unpickled_and_no_code_beside_a_file_is_run(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As versions before 1.0.26 have it.
    monkeypatch.setattr(timm.models, "load_checkpoint", partial(timm.models.load_checkpoint, weights_only=False))
    (tmp_path / "theirs").mkdir()
    evil = Evil(tmp_path / "ran")
    try:
        CASES[case](tmp_path / "theirs", evil)
    except (NameError, TypeError):  # of a mistake in the table above
        raise
    except Exception:  # what it says is another test's; a type of Ray's may raise anything
        pass
    assert not evil.ran.exists()


def test_weights_of_the_demo_are_loaded_as_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pickle.UnpicklingError):
        trunk(Evil(tmp_path / "ran"), monkeypatch)
    assert not (tmp_path / "ran").exists()


def test_what_the_table_makes_would_run_where_it_is_unpickled(tmp_path: Path) -> None:
    """The check of the check: each kind of file creates its file where somebody does unpickle it."""
    for number, (made, opened) in enumerate((
        (in_archive, lambda file: torch.load(file, weights_only=False)),
        (as_pickle, lambda file: pickle.loads(file.read_bytes())),
        (in_arrays, lambda file: np.load(file, allow_pickle=True)["class"]),
        (in_table, lambda file: pickle.loads(pq.read_table(file)["path"].cast(pa.large_binary())[0].as_py())),
    )):  # fmt: skip
        evil = Evil(tmp_path / f"ran{number}")
        file = made(evil, tmp_path / f"file{number}{'.npz' if made is in_arrays else ''}")
        assert not evil.ran.exists()
        opened(file)
        assert evil.ran.exists()
