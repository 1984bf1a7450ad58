"""The embedding stage on a real local Ray: right values, nothing twice, bad files named, store errors told."""

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Semaphore
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
from PIL import Image

from benchmark.backbones.loading import Backbone
from benchmark.commands.preparing.prepare import prepare
from benchmark.common.errors import FaultError, IcmBenchError
from benchmark.common.ray.cluster import connected
from benchmark.common.storage.files import Storage
from benchmark.embedding import pipeline, pool
from benchmark.embedding import text_encoding as texts
from benchmark.embedding.batching import Part
from benchmark.embedding.chunks import Chunk, ChunkCounts, DecodedChunk
from benchmark.embedding.encoder import Encoder
from benchmark.embedding.images import Geometry
from benchmark.embedding.ledger import open_ledger
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.embedding.pool import CPU_LIMITS
from benchmark.embedding.stages import FAILURE
from benchmark.embedding.text_encoding import encode_with_noise
from benchmark.method.interventions.text import TextPair
from benchmark.method.prompts import Prompt
from benchmark.recipe.loading import parse_recipe
from benchmark.recipe.recipe import Recipe
from benchmark.store import embeddings as store
from benchmark.store.embeddings import DEFAULT_DECODING, pairs_file, prompts_file, read_texts, text_file
from tests.conftest import S3, make_toy
from tests.faulty_s3 import Proxy
from tests.stand_in import FACTS, stand_in, views

pytestmark = pytest.mark.usefixtures("local_ray")

RecipeFor = Callable[..., Recipe]


@pytest.fixture
def recipe_for(tiny_random: dict[str, Any]) -> RecipeFor:
    """Return a function that makes a recipe on a folder of images, with some keys changed."""
    return lambda root, **changes: _recipe(root, tiny_random, **changes)


def _recipe(root: Path, backbone: dict[str, Any], **changes: Any) -> Recipe:
    content = {
        "name": "toy",
        "datasets": [{"name": "toy", "root": str(root)}],
        "backbones": [backbone],
        "interventions": {"kinds": ["invert", "color_jitter"]},
        "run": {"batch_size": 4},
    }
    return parse_recipe({**content, **changes})


def embed_all(recipe: Recipe, storage: Storage, encoder: type = Encoder):  # type: ignore[no-untyped-def]
    (subject,) = prepare(recipe, storage, lambda _: None).subjects
    job = EmbedJob(storage, subject.manifest, subject.backbone, subject.facts, subject.views, subject.decoding)
    return subject, embed(job, recipe.run, encoder)


def count_all(recipe: Recipe, storage: Storage):  # type: ignore[no-untyped-def]
    """As `embed_all`, for tests of what is embedded, not of the embeddings: an encoder without weights loads at once."""
    return embed_all(recipe, storage, stand_in(0.001))


def pixels_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("apply_at", "other"), [("model_input", "source"), ("source", "model_input")])
def test_embeddings_are_those_of_a_plain_loop_and_a_second_run_embeds_nothing(
    apply_at: str, other: str, toy_root: Path, tmp_path: Path, recipe_for: RecipeFor
) -> None:
    interventions = {"kinds": ["color_jitter", "gaussian_blur"], "apply_at": apply_at}
    # More actors than cores, and a batch size that divides nothing: neither may show in the embeddings.
    recipe = recipe_for(toy_root, run={"actors": 3, "batch_size": 5}, interventions=interventions)
    storage = Storage(str(tmp_path / "store"))
    subject, report = embed_all(recipe, storage)
    assert (report.embedded, report.reused, report.rejected) == (36 * 3, 0, {})

    backbone = Backbone(recipe.backbones[0])
    resize_and_crop = Geometry.of(backbone.preprocess)
    ids, paths = (subject.manifest.table[name].to_pylist() for name in ("image_id", "path"))
    for view in subject.views:
        stored = store.read(storage, view, ids)
        assert stored.dtype == np.float32
        for i in (0, 17, 35):
            pixels = pixels_of(Image.open(toy_root / paths[i]).convert("RGB"))
            for step in ("source", "model_input"):
                if view.intervention and step == apply_at:
                    pixels = view.intervention.views(pixels, [ids[i]], recipe.interventions.seed)
                if step == "source":
                    pixels = pixels_of(
                        resize_and_crop(Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy()))
                    )
            np.testing.assert_allclose(stored[i], backbone.encode_images(pixels)[0], atol=1e-5)

    _, again = embed_all(recipe, storage)
    assert (again.embedded, again.reused) == (0, 36 * 3)
    elsewhere = recipe_for(toy_root, interventions={**interventions, "apply_at": other})  # other pixels, another place
    (moved,) = prepare(elsewhere, storage, lambda _: None).subjects
    assert {view.directory for view in moved.views}.isdisjoint(view.directory for view in subject.views)


def test_batch_size_actors_tasks_order_and_resume_do_not_show(
    tmp_path: Path, recipe_for: RecipeFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_toy(tmp_path / "toy", environments=2, classes=2, images=50)
    stores = [Storage(str(tmp_path / name)) for name in ("one", "other")]
    # Ray hands blocks to three actors as they come: in another order each time.
    subject, _ = embed_all(recipe_for(root, run={"batch_size": 7, "actors": 3}), stores[0])
    monkeypatch.setattr(pool, "SINGLE_CHUNK_TASKS", 0)  # one task decodes all four chunks instead of one each
    embed_all(recipe_for(root, run={"batch_size": 64}), stores[1])
    for view in subject.views[:2]:  # two parts are lost and made again
        Path(stores[1].path(store.part_name(view.directory, 1))).unlink()
    assert embed_all(recipe_for(root, run={"batch_size": 1}), stores[1])[1].embedded == 2 * 64
    ids = subject.manifest.table["image_id"].to_pylist()
    for view in subject.views:
        ours, theirs = (store.read(storage, view, ids) for storage in stores)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_only_what_is_missing_is_computed(toy_root: Path, tmp_path: Path, recipe_for: RecipeFor) -> None:
    storage = Storage(str(tmp_path / "store"))
    subject, first = count_all(recipe_for(toy_root), storage)
    assert first.speed is not None
    assert first.speed.views == 36 * 3
    kinds = ["invert", "color_jitter"]
    for changed, embedded, reused in (
        ({"kinds": [*kinds, "equalize"]}, 36, 36 * 3),  # only the new kind
        ({"kinds": kinds, "seed": 1}, 36, 36 * 2),  # only what is drawn depends on the seed
    ):
        _, report = count_all(recipe_for(toy_root, interventions=changed), storage)
        assert (report.embedded, report.reused) == (embedded, reused)
    Path(storage.path(store.part_name(subject.views[1].directory, 0))).unlink()
    _, repaired = count_all(recipe_for(toy_root), storage)
    assert (repaired.embedded, repaired.reused) == (36, 72)


def test_schema_of_the_parts(toy_root: Path, tmp_path: Path, recipe_for: RecipeFor) -> None:
    storage = Storage(str(tmp_path / "store"))
    (plain,) = recipe_for(toy_root).backbones
    recipe = recipe_for(toy_root, backbones=[{**plain.model_dump(), "precision": "float16"}])
    subject, _ = count_all(recipe, storage)
    (name,) = store.parts(storage, subject.views[1].directory).values()
    table = storage.read_table(name)
    assert table.column_names == ["image_id", "environment", "class_name", "label", "view", "embedding"]
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: halffloat>[16]"
    assert table.schema.metadata[b"engine"] == b"torch"
    assert set(table["view"].to_pylist()) == {"invert"}
    about, speed = (
        json.loads(storage.read_bytes(f"{subject.views[1].directory}/{name}.json")) for name in ("about", "speed")
    )
    assert (about["dataset"], about["view"], about["precision"]) == ("toy", "invert", "float16")
    assert about["depends_on"] == subject.views[1].depends_on
    assert min(speed[name] for name in ("seconds", "first_embedding", "decode", "encode")) > 0


def test_a_bad_image_is_named_and_skipped_many_are_too_many_and_equal_bytes_are_embedded_once(
    toy_root: Path, tmp_path: Path, recipe_for: RecipeFor
) -> None:
    storage = Storage(str(tmp_path / "store"))
    shutil.copy(toy_root / "env0" / "cat" / "0.png", toy_root / "env0" / "cat" / "copy.png")
    bad = toy_root / "env1" / "dog" / "2.png"
    bad.write_bytes(bad.read_bytes()[:60])
    lenient = recipe_for(toy_root, run={"max_bad_images": 0.05})
    subject, report = count_all(lenient, storage)
    assert list(report.rejected) == ["env1/dog/2.png"]
    assert report.embedded == 35 * 3
    with pytest.raises(IcmBenchError, match=r"1 of 37 images of toy cannot be read, more than 1%.*dog/2.png"):
        count_all(recipe_for(toy_root), storage)
    for view in subject.views:  # the good ones are kept, the bad one is known
        (name,) = store.parts(storage, view.directory).values()
        assert storage.read_table(name).num_rows == 35


def test_text_embeddings_are_unit_length_means_over_templates(tmp_path: Path, recipe_for: RecipeFor) -> None:
    storage, spec = Storage(str(tmp_path / "store")), recipe_for(tmp_path).backbones[0]
    classes, templates, backbone = ["big_cat", "dog"], ["a photo of a {}.", "a {}."], Backbone(spec)
    ray.get(texts.begin_texts(storage, texts.TextJob(spec, backbone.facts, [classes], templates)))
    raw = backbone.encode_texts(["a photo of a big cat.", "a big cat.", "a photo of a dog.", "a dog."])
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    mean = unit.reshape(2, 2, -1).mean(axis=1)
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    stored = read_texts(storage, text_file(backbone.facts, classes, templates))
    np.testing.assert_allclose(stored, expected, atol=1e-5)
    prompts = (Prompt(("a photo of a big cat.", "a big cat."), "x"), Prompt(("a dog.",), "x"))
    pairs = [TextPair("a dog.", "a big cat."), TextPair("a dog.", "a big cat.", noise=3)]
    ray.get(texts.begin_texts(storage, texts.TextJob(spec, backbone.facts, [], templates, pairs, [prompts])))
    of_prompts = read_texts(storage, prompts_file(backbone.facts, prompts))
    np.testing.assert_allclose(of_prompts, [stored[0], unit[3]], atol=1e-5)
    table = storage.read_table(pairs_file(backbone.facts, pairs))
    caption, rewrite = (np.array(table[name].to_pylist()) for name in ("caption", "rewrite"))
    np.testing.assert_allclose(caption, raw[[3, 3]], atol=1e-5)
    np.testing.assert_allclose(rewrite[0], raw[1], atol=1e-5)
    np.testing.assert_allclose(rewrite[1], encode_with_noise(backbone, ["a big cat."], [3])[0], atol=1e-5)
    other = replace(backbone.facts, fingerprint="0" * 64)
    with connected(), pytest.raises(Exception, match="are not those the run was planned with"):
        ray.get(texts.begin_texts(storage, texts.TextJob(spec, other, [classes], templates)))


def test_texts_that_others_have_embedded_meanwhile_load_nothing(
    tmp_path: Path, recipe_for: RecipeFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two data sets of the same classes begin them before either is there."""
    storage, spec = Storage(str(tmp_path / "store")), recipe_for(tmp_path).backbones[0]
    facts = Backbone(spec).facts
    job = texts.TextJob(spec, facts, [["cat"]], ["a {}."])
    first = texts.begin_texts(storage, job)
    again = texts.begin_texts(storage, job, after=first)
    ray.get([*first, *again])
    monkeypatch.setattr(texts, "Backbone", Mock(side_effect=AssertionError("loaded")))
    texts._embed_on_worker._function(storage, job, False)
    with pytest.raises(AssertionError, match="loaded"):
        texts._embed_on_worker._function(storage, replace(job, class_lists=[["dog"]]), False)


def test_texts_take_no_gpu_where_the_recipe_asks_for_cpus(
    tmp_path: Path, recipe_for: RecipeFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, spec = Storage(str(tmp_path / "store")), recipe_for(tmp_path).backbones[0]
    job, task = texts.TextJob(spec, Backbone(spec).facts, [["cat"]], ["a {}."]), Mock()
    run = texts._embed_on_worker._function
    monkeypatch.setattr(texts, "_embed_on_worker", task)
    for gpus, device, asked in ((1, "auto", "num_gpus"), (1, "cpu", "num_cpus"), (0, "auto", "num_cpus")):
        monkeypatch.setattr(texts, "gpu_count", lambda gpus=gpus: gpus)
        texts.begin_texts(storage, job, device)
        assert task.options.call_args.kwargs == {asked: 1}
    loaded = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(texts, "Backbone", loaded)
    monkeypatch.setattr(texts, "best_device", Mock(return_value="cuda"))
    for on_gpu, where in ((True, "cuda"), (False, "cpu")):
        with pytest.raises(InterruptedError):
            run(storage, job, on_gpu)
        assert loaded.call_args.args[1] == where


def test_the_next_chunk_is_encoded_while_one_is_written_and_none_after_it(
    toy_root: Path, tmp_path: Path, recipe_for: RecipeFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, recipe = Storage(str(tmp_path / "store")), recipe_for(toy_root)
    subject = prepare(recipe, storage, lambda _: None).subjects[0]
    job = EmbedJob(storage, subject.manifest, subject.backbone, FACTS, views(subject.manifest, 1))
    chunks = pipeline._missing_chunks(job)[0]
    reader, geometry = subject.manifest.reader, Geometry.of(FACTS.preprocess)
    work = pipeline.Work(storage, reader, job.views, geometry, FACTS, DEFAULT_DECODING)
    [row] = chunks.rows()
    decoded = pipeline._decode(row, work, ray.put(chunks.images), chunks.size)
    encoded, writes, may_write = Semaphore(0), Semaphore(0), Event()

    class Counting(stand_in(0.001)):  # type: ignore[misc]
        def launch(self, parts: list[Part]) -> Any:
            encoded.release()
            return super().launch(parts)

    def slow_write(*_: Any) -> None:
        writes.release()
        assert may_write.wait(60)

    monkeypatch.setattr(store, "write_part", slow_write)
    actor = pipeline._EncodeAndWrite(work, Counting, CPU_LIMITS, open_ledger("run", {}), "run", None)
    with ThreadPoolExecutor(3) as calls:
        done = [calls.submit(actor, decoded) for _ in range(3)]
        assert writes.acquire(timeout=60)  # the first one is being written
        assert encoded.acquire(timeout=60)
        assert encoded.acquire(timeout=60)  # and the second one encoded
        assert not encoded.acquire(timeout=0.5), "a third one was begun, which a kill would cost too"
        may_write.set()
        counts = [next(ChunkCounts.from_rows(one.result().drop_columns([FAILURE]))) for one in done]
        assert [count.views for count in counts] == [36] * 3


@pytest.mark.parametrize(
    ("precision", "largest", "kept"),
    [("float32", 1.0, pa.float32()), ("tf32", 1.0, pa.float32()), ("float16", 1.0, pa.float16()),
     ("bfloat16", 6e4, pa.float16()), ("bfloat16", 7e4, pa.float32())],
)  # fmt: skip
def test_embeddings_of_low_precision_are_stored_in_16_bits_if_they_fit(
    tmp_path: Path, precision: str, largest: float, kept: pa.DataType
) -> None:
    """Values of bfloat16 have 8 bits of mantissa, which float16 keeps, but a larger range."""
    z = torch.randn(5, 1, 16, generator=torch.Generator().manual_seed(0)).bfloat16().float().numpy()
    z[2, 0, 3] = torch.tensor(largest).bfloat16().item()
    columns = {name: [f"{name} {i}" for i in range(5)] for name in ("image_id", "environment", "class_name", "path")}
    images = pa.record_batch({**columns, "label": [0, 1, 2, 3, 4]})
    chunk = DecodedChunk(0, 1, images, 1, ["", "", "", "damaged", ""], np.zeros((5, 2, 2, 3), np.uint8), 0.0)
    [view] = (store.view_of("set", 5, {}, None, 0),)
    work: Any = SimpleNamespace(
        storage=Storage(str(tmp_path)), facts=replace(FACTS, precision=precision), views_in=lambda _: [view]
    )
    assert [write() for write in pipeline._parts(chunk, z, work)] == [True]
    table = work.storage.read_table(store.part_name(view.directory, 0))
    assert table["embedding"].type.value_type == kept
    assert table["image_id"].to_pylist() == [columns["image_id"][i] for i in (0, 1, 2, 4)]
    np.testing.assert_allclose(store.vectors(table), z[[0, 1, 2, 4], 0], rtol=0, atol=2e-8 * largest)


class NotStarting(stand_in(0.001)):  # type: ignore[misc]
    """Cannot load its weights."""

    def __init__(self, *_: Any) -> None:
        raise IcmBenchError("This node has other weights.")


class NotEncoding(stand_in(0.001)):  # type: ignore[misc]
    """Meets what nobody has foreseen."""

    def launch(self, parts: list[Part]) -> Any:
        raise RuntimeError(f"no such kernel\nin chunk {parts[0].waiting.chunk.number}")


@pytest.mark.parametrize(
    ("encoder", "kind", "said"),
    [
        (NotStarting, IcmBenchError, "^This node has other weights.$"),
        (NotEncoding, FaultError,
         r"^RuntimeError \(no such kernel\) at .*test_pipeline.py:\d+ while embedding chunk 0, from env0/\S+ on"),
    ],
)  # fmt: skip
def test_what_fails_in_an_encoder_comes_out_as_itself(
    toy_root: Path, tmp_path: Path, recipe_for: RecipeFor, encoder: type, kind: type[Exception], said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with pytest.raises(kind, match=said) as error, connected():
        embed_all(recipe_for(toy_root), Storage(str(tmp_path / "store")), encoder)
    assert kind is IcmBenchError or "in launch" in error.value.trace  # type: ignore[attr-defined]
    assert noise(capfd.readouterr().err) == []


def noise(err: str) -> list[str]:
    """Return the lines that nobody wants; a busy machine may say that it waits for an encoder."""
    return [line for line in err.splitlines() if "no chunk for" not in line]


@pytest.mark.parametrize("at", ["model_input", "source"])
def test_a_view_of_the_users_own_that_raises_is_named_with_its_line(
    toy_root: Path, tmp_path: Path, recipe_for: RecipeFor, at: str, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_for(toy_root, interventions={"kinds": ["tests.broken:RaisesAView"], "apply_at": at})
    said = r"^tests.broken:RaisesAView raised KeyError \('this intervention is broken'\) at .*/tests/broken.py:\d+"
    with pytest.raises(IcmBenchError, match=said), connected():
        embed_all(recipe, Storage(str(tmp_path / "store")))
    assert noise(capfd.readouterr().err) == []


def test_an_object_store_is_asked_for_some_chunks_until_one_of_another_process_is_met(
    faulty_s3: tuple[S3, Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, asked = Storage(f"s3://bucket/{tmp_path.name}"), faulty_s3[1].faults.counts
    both = tuple(store.view_of("set", 64 * 40, {"backbone": name}, None, 0) for name in "ab")
    work: Any = SimpleNamespace(storage=storage, views=both)
    monkeypatch.setattr(pipeline, "_other_writer_found", Event())
    monkeypatch.setattr("os.getpid", lambda: 1)
    nothing = pa.record_batch({"image_id": pa.array([], pa.string())})
    storage.write_bytes(store.part_name(both[0].directory, 31), b"of another process")

    def missing(number: int) -> tuple[int, int]:
        asked.clear()
        return pipeline._still_missing(Chunk(number, 0b11, nothing), work), sum(asked.values())

    assert [missing(number) for number in (0, 1, 15, 30)] == [(0b11, 0), (0b11, 0), (0b11, 1), (0b11, 0)]
    assert missing(31) == (0b10, 2)
    assert missing(32) == (0b11, 1)
