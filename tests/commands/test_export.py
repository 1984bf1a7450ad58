"""An exported projection: read back as written, usable without this package, and a wrapped model that predicts the same."""

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from benchmark.backbones import projection_files
from benchmark.backbones.projected_encoder import ProjectedEncoder
from benchmark.backbones.projection_files import ExportedProjection, read_projection, write_projection
from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage
from benchmark.method.predictors import Problem
from benchmark.method.predictors.zero_shot import ZeroShot
from tests.conftest import TINY_CLIP

Vectors = NDArray[np.float64]
D, K = 16, 5
PROVENANCE = {
    "backbone": "tiny (RANDOM WEIGHTS)",
    "fingerprint": "ab" * 32,
    "normalize": "none",
    "lambda": 0.3,
    "sources": ["art_painting", "Bücher"],
    "seed": 0,
}
PROMPTS = [f"a photo of a {name}." for name in ("dog", "house", "giraffe", "guitar", "person", "horse", "elephant")]


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """The first K columns of an orthonormal basis, shape (D, K)."""
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((D, D)))
    return q[:, :K]


def tiny_model(**options: Any) -> Any:
    torch.manual_seed(1)
    return open_clip.CLIP(**TINY_CLIP, **options).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """40 images of four fields in strong colours: different enough for random weights to tell apart (synthetic)."""
    colours = 4 * torch.randn((40, 3, 2, 2), generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(colours, size=(32, 32), mode="nearest")


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    tokens: torch.Tensor = open_clip.tokenize(PROMPTS)
    return tokens


def projected(vectors: Vectors, normalize: str = "none", text_vectors: Vectors | None = None) -> ExportedProjection:
    texts = None if text_vectors is None else text_vectors.T.astype(np.float32)
    return ExportedProjection(vectors.T.astype(np.float32), {**PROVENANCE, "normalize": normalize}, texts)


def unit(z: Vectors) -> Vectors:
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def in_numpy(embeddings: torch.Tensor) -> Vectors:
    return embeddings.numpy().astype(np.float64)


def test_what_is_written_is_read_back(tmp_path: Path, vectors: Vectors) -> None:
    folder = tmp_path / "new" / "folder"
    write_projection(folder, vectors, PROVENANCE)
    exported = read_projection(folder)
    assert exported.provenance == PROVENANCE
    assert (exported.rank, exported.dim) == (K, D)
    assert exported.matrix.dtype == np.float32
    assert exported.matrix.flags.c_contiguous
    np.testing.assert_array_equal(exported.matrix, vectors.T.astype(np.float32))
    assert sorted(p.name for p in folder.iterdir()) == ["projection.json", "projection.safetensors"]
    facts = json.loads((folder / "projection.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256((folder / "projection.safetensors").read_bytes()).hexdigest()
    assert facts == {"format_version": 1, "rank": K, "dim": D, "sha256": digest, "provenance": PROVENANCE}
    np.testing.assert_array_equal(load_file(folder / "projection.safetensors")["A"], exported.matrix)


def test_a_map_of_texts_is_a_second_tensor_that_earlier_versions_refuse(tmp_path: Path, vectors: Vectors) -> None:
    write_projection(tmp_path, vectors, PROVENANCE, 2 * vectors)
    exported = read_projection(tmp_path)
    assert exported.text_matrix is not None
    np.testing.assert_array_equal(exported.text_matrix, 2 * exported.matrix)
    assert json.loads((tmp_path / "projection.json").read_text())["format_version"] == 2
    tensors = load_file(tmp_path / "projection.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {"A": (K, D), "A_text": (K, D)}
    write_projection(tmp_path, vectors, PROVENANCE)  # whoever has one map writes what was always written
    assert read_projection(tmp_path).text_matrix is None
    assert json.loads((tmp_path / "projection.json").read_text())["format_version"] == 1


def test_equal_projections_are_equal_files_and_a_second_one_replaces_the_first(
    tmp_path: Path, vectors: Vectors
) -> None:
    contents = []
    for provenance in (PROVENANCE, dict(reversed(PROVENANCE.items()))):
        write_projection(tmp_path, vectors, provenance)
        contents.append([file.read_bytes() for file in sorted(tmp_path.iterdir())])
    assert contents[0] == contents[1]
    write_projection(tmp_path, vectors[:, :2], PROVENANCE)
    assert read_projection(tmp_path).rank == 2


def test_a_writer_that_is_stopped_half_way_leaves_nothing_that_passes_for_whole(
    tmp_path: Path, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Storage.write_bytes

    def stopped(self: Storage, name: str, content: bytes) -> None:
        if name.endswith(".json"):
            raise KeyboardInterrupt
        write(self, name, content)

    write_projection(tmp_path / "old", vectors, PROVENANCE)
    with monkeypatch.context() as patched:
        patched.setattr(Storage, "write_bytes", stopped)
        for folder in ("old", "new"):
            with pytest.raises(KeyboardInterrupt):
                write_projection(tmp_path / folder, vectors[:, ::-1], PROVENANCE)
    with pytest.raises(IcmBenchError, match=r"projection\.safetensors is damaged, or not the file that"):
        read_projection(tmp_path / "old")
    with pytest.raises(IcmBenchError, match=r"projection\.json cannot be read \(No such file or directory\)"):
        read_projection(tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"basis_vectors": np.eye(4)[0]}, ValueError, r"shape \(D, k\) with 1 <= k <= D, not \(4,\)"),
        ({"basis_vectors": np.ones((2, 3))}, ValueError, r"not \(2, 3\)"),
        ({"basis_vectors": np.ones((2, 0))}, ValueError, r"not \(2, 0\)"),
        ({"basis_vectors": np.array([[1e39], [0.0]])}, ValueError, "infinite in float32"),
        ({"text_vectors": np.eye(3)[:, :2]}, ValueError, r"text_vectors must have the shape .*, not \(3, 2\)"),
        ({"text_vectors": np.full((3, 3), np.nan)}, ValueError, "NaN"),
        ({"provenance": {**PROVENANCE, "normalize": "sometimes"}}, ValueError, "'normalize': one of none, before"),
        ({"provenance": {**PROVENANCE, "backbone": None}}, ValueError, "needs 'backbone'"),
        ({"provenance": {"backbone": "tiny", "normalize": "none"}}, ValueError, "needs 'fingerprint'"),
        ({"provenance": {**PROVENANCE, "lambda": float("nan")}}, ValueError, "JSON"),
        ({"provenance": {**PROVENANCE, "folder": Path("x")}}, TypeError, "JSON"),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_file_appears(tmp_path: Path, change, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        write_projection(tmp_path, **{"basis_vectors": np.eye(3), "provenance": PROVENANCE, **change})
    assert not list(tmp_path.iterdir())


class Evil:
    """Would create a file if it were unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def rewrite(folder: Path, content: bytes, **facts: Any) -> None:
    """Replace the tensor file by `content` and let projection.json vouch for it."""
    (folder / "projection.safetensors").write_bytes(content)
    known = json.loads((folder / "projection.json").read_text(encoding="utf-8"))
    known |= {"sha256": hashlib.sha256(content).hexdigest(), **facts}
    (folder / "projection.json").write_text(json.dumps(known), encoding="utf-8")


A = np.eye(K, D, dtype=np.float32)


@pytest.mark.parametrize(
    ("content", "facts", "message"),
    [
        (save({"B": A}), {}, "holds no tensor 'A' that can be read"),
        (b"not safetensors at all", {}, "holds no tensor 'A' that can be read"),
        (save({"A": A.astype(np.float64)}), {}, "not of finite float32 numbers"),
        (save({"A": np.where(A == 1, A, np.float32("nan"))}), {}, "not of finite float32 numbers"),
        (save({"A": A.T.copy()}), {}, r"holds a matrix of shape \(16, 5\), and projection.json says \(5, 16\)"),
        (save({"A": A}), {"rank": 6}, r"shape \(5, 16\), and projection.json says \(6, 16\)"),
        (save({"A": A}), {"sha256": "0" * 64}, "projection.safetensors is damaged, or not the file"),
        (save({"A": A}), {"format_version": 3}, "has the format 3, and this version of icm-bench reads 1 and 2; inst"),
        (save({"A": A}), {"format_version": 2}, "holds no tensor 'A_text' that can be read"),
        (save({"A": A, "A_text": A.T.copy()}), {"format_version": 2}, r"shape \(16, 5\), and projection.json says"),
        (save({"A": A}), {"rank": "5"}, "projection.json is damaged .its 'rank' is missing or of the wrong type"),
        (save({"A": A}), {"provenance": {}}, "projection.json is damaged .*'backbone'"),
        (save({"A": A}), {"provenance": {**PROVENANCE, "normalize": []}}, "projection.json is damaged .*'normalize'"),
    ],
)
def test_files_that_are_not_as_they_were_written_are_refused(  # type: ignore[no-untyped-def]
    tmp_path: Path, vectors, content, facts, message
) -> None:
    write_projection(tmp_path, vectors, PROVENANCE)
    rewrite(tmp_path, content, **facts)
    with pytest.raises(IcmBenchError, match=message) as caught:
        read_projection(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))
    assert "export the projection again" in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_description_is_refused(tmp_path: Path, vectors: Vectors, text: bytes) -> None:
    write_projection(tmp_path, vectors, PROVENANCE)
    (tmp_path / "projection.json").write_bytes(text)
    with pytest.raises(IcmBenchError, match=r"projection\.json is damaged .*; export the projection again\."):
        read_projection(tmp_path)


def test_nothing_is_unpickled(tmp_path: Path, vectors: Vectors) -> None:
    write_projection(tmp_path, vectors, PROVENANCE)
    rewrite(tmp_path, pickle.dumps(Evil(tmp_path / "evil")))
    with pytest.raises(IcmBenchError, match="holds no tensor"):
        read_projection(tmp_path)
    assert not (tmp_path / "evil").exists()


def test_six_lines_do_without_this_package(  # type: ignore[no-untyped-def]
    tmp_path: Path, vectors, model: Any, images: torch.Tensor, tokens: torch.Tensor
) -> None:
    assert projection_files.__doc__ is not None
    lines = [line for line in projection_files.__doc__.splitlines() if line.startswith("    ")]
    assert len(lines) == 6
    maps = {"one": None, "two": vectors[::-1]}
    for name, of_texts in maps.items():
        write_projection(tmp_path / name, vectors, PROVENANCE, of_texts)
    torch.save({"images": images, "tokens": tokens}, tmp_path / "inputs.pt")
    body = "\n".join(lines)  # indented as the body of a loop
    script = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "benchmark":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import open_clip, torch
torch.manual_seed(1)
model = open_clip.CLIP(**{TINY_CLIP!r}).eval().requires_grad_(False)
images, tokens = torch.load("inputs.pt").values()
for folder in {[*maps]!r}:
{body}
    torch.save(logits, folder + "/logits.pt")
try:
    import benchmark
except ModuleNotFoundError:
    sys.exit(0)
sys.exit("not blocked")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    z, t = in_numpy(model.encode_image(images)), in_numpy(model.encode_text(tokens))
    for name, of_texts in maps.items():
        logits = torch.load(tmp_path / name / "logits.pt")
        of_texts = vectors if of_texts is None else of_texts
        expected = float(model.logit_scale.exp()) * unit(z @ vectors) @ unit(t @ of_texts).T
        np.testing.assert_allclose(logits.numpy(), expected, atol=1e-4)
        encoder = ProjectedEncoder(model, read_projection(tmp_path / name))
        torch.testing.assert_close(encoder.get_logits(images, tokens)[0], logits)


@pytest.mark.parametrize("normalize", ["none", "before", "after", "both"])
def test_embeddings_are_those_of_numpy(vectors, model, images, tokens, normalize) -> None:  # type: ignore[no-untyped-def]
    encoder = ProjectedEncoder(model, projected(vectors, normalize))
    z, t = in_numpy(model.encode_image(images)), in_numpy(model.encode_text(tokens))
    z = unit(z) if normalize in ("before", "both") else z
    for unit_after in (False, True):
        after = unit if unit_after else np.asarray
        np.testing.assert_allclose(encoder.encode_image(images, normalize=unit_after), after(z @ vectors), atol=1e-5)
        of_texts = encoder.encode_text(tokens, normalize=unit_after)
        np.testing.assert_allclose(of_texts, after(unit(t) @ vectors), atol=1e-5)


def test_texts_have_a_map_of_their_own_where_there_is_one(vectors, model, images, tokens) -> None:  # type: ignore[no-untyped-def]
    encoder = ProjectedEncoder(model, projected(vectors, "before", vectors[::-1]))
    z, t = unit(in_numpy(model.encode_image(images))), unit(in_numpy(model.encode_text(tokens)))
    np.testing.assert_allclose(encoder.encode_image(images), z @ vectors, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_text(tokens), t @ vectors[::-1], atol=1e-5)
    logits = float(model.logit_scale.exp()) * unit(z @ vectors) @ unit(t @ vectors[::-1]).T
    np.testing.assert_allclose(encoder.get_logits(images, tokens)[0], logits, atol=1e-4)
    assert set(encoder.state_dict()) == {"A", "A_text", *(f"model.{name}" for name in model.state_dict())}
    assert torch.equal(copy.deepcopy(encoder).encode_text(tokens), encoder.encode_text(tokens))


@pytest.mark.parametrize("scoring", ["cosine", "released"])
def test_zero_shot_predictions_are_those_of_the_benchmark(vectors, images, tokens, scoring) -> None:  # type: ignore[no-untyped-def]
    model = tiny_model()
    model.visual.class_embedding.zero_()  # what all images share drowns, in random weights, what they do not
    model.visual.positional_embedding.zero_()
    encoder = ProjectedEncoder(model, projected(vectors))
    z, t = in_numpy(model.encode_image(images)), unit(in_numpy(model.encode_text(tokens)))
    unit_after = scoring == "cosine"
    logits = encoder.encode_image(images, normalize=unit_after) @ encoder.encode_text(tokens, normalize=unit_after).T
    by_hand = unit(z @ vectors) @ unit(t @ vectors).T if unit_after else z @ vectors @ (t @ vectors).T
    problem = Problem((z @ vectors)[:0], np.array([], dtype=np.int64), t @ vectors, [z @ vectors])
    (curve,) = ZeroShot(scoring=scoring).predict(problem, [K])
    predicted = logits.argmax(dim=1).numpy()
    assert len(set(predicted)) > 3
    np.testing.assert_array_equal(predicted, by_hand.argmax(axis=1))
    np.testing.assert_array_equal(predicted, curve[0])


@pytest.mark.parametrize("options", [{}, {"init_logit_bias": -3.0}, {"output_dict": True}])
def test_a_rotation_leaves_the_outputs_of_the_model(images: torch.Tensor, tokens: torch.Tensor, options: Any) -> None:
    """At full rank the wrapper is the model up to a rotation, so it must return what open_clip returns, as it does."""
    model = tiny_model(**options)
    q, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((D, D)))
    encoder = ProjectedEncoder(model, projected(q))
    plain, turned = model(images, tokens), encoder(images, tokens)
    if options.get("output_dict"):
        assert list(plain) == list(turned)
        plain, turned = tuple(plain.values()), tuple(turned.values())
    assert isinstance(turned, tuple)
    assert len(turned) == len(plain)
    torch.testing.assert_close(turned[0] @ turned[1].T, plain[0] @ plain[1].T, atol=1e-5, rtol=0)
    for mine, theirs in zip(turned[2:], plain[2:], strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(encoder.get_logits(images, tokens), model.get_logits(images, tokens), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def test_forward_takes_images_or_texts_alone(vectors, model, images, tokens) -> None:  # type: ignore[no-untyped-def]
    encoder = ProjectedEncoder(model, projected(vectors))
    of_images, no_texts, _ = encoder(images)
    no_images, of_texts, _ = encoder(text=tokens)
    assert no_texts is no_images is None
    assert (of_images.shape, of_texts.shape) == ((40, K), (7, K))
    both = encoder(images, tokens)
    assert torch.equal(both[0], of_images)
    assert torch.equal(both[1], of_texts)


def test_all_else_is_the_models_own(vectors: Vectors, images: torch.Tensor) -> None:
    model = tiny_model()
    encoder = ProjectedEncoder(model, projected(vectors))
    assert (encoder.logit_scale, encoder.visual) == (model.logit_scale, model.visual)
    assert encoder.context_length == 77
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = encoder.no_such_thing
    assert not encoder.training
    copied = copy.deepcopy(encoder)
    assert torch.equal(copied.encode_image(images), encoder.encode_image(images))
    assert copied.model is not model
    assert set(encoder.state_dict()) == {"A", *(f"model.{name}" for name in model.state_dict())}


def test_the_projection_is_not_rounded_by_autocast(vectors: Vectors, model: Any, images: torch.Tensor) -> None:
    encoder = ProjectedEncoder(model, projected(vectors))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z, projected_z = model.encode_image(images), encoder.encode_image(images)
    assert projected_z.dtype == torch.float32
    np.testing.assert_allclose(projected_z, in_numpy(z.float()) @ vectors, atol=1e-5)


def test_a_model_of_another_width_is_refused(vectors: Vectors, images: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = open_clip.CLIP(**{**TINY_CLIP, "embed_dim": 12}).eval()
    encoder = ProjectedEncoder(model, projected(vectors))
    with pytest.raises(ValueError, match=r"width 12, and the projection, made for 'tiny \(RANDOM WEIGHTS\)', takes 16"):
        encoder.encode_image(images)
