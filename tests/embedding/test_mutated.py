"""Damaged and unusual files through the whole pipeline and through the readers, against Pillow and open_clip themselves."""

import io
import json
import struct
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image, ImageOps

from benchmark.backbones.loading import Backbone
from benchmark.cli import main
from benchmark.commands.preparing.prepare import prepare
from benchmark.common.image_formats import FORMATS
from benchmark.common.storage.files import Storage
from benchmark.embedding.pipeline import EmbedJob, embed
from benchmark.recipe.loading import parse_recipe
from benchmark.store import embeddings as store
from tests import mutated_inputs


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    with io.BytesIO() as buffer:
        image.save(buffer, format_, **options)
        return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that only says how large it is."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(body)) + b"IHDR" + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    return b"\x89PNG\r\n\x1a\n" + chunk


def mutations(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield (name of the file, content); deterministic."""
    rng = np.random.default_rng(0)
    contents = [file.read_bytes() for file in files]
    for i in range(70):
        content = contents[i]
        yield f"truncated{i}.jpg", content[: int(rng.integers(1, len(content)))]
    for i in range(100):
        flipped = bytearray(contents[i])
        for place in rng.integers(0, len(flipped), int(rng.integers(1, 12))):
            flipped[place] ^= 1 << int(rng.integers(8))
        yield f"flipped{i}.jpg", bytes(flipped)
    for i in range(30):
        holed = bytearray(contents[i])
        start = int(rng.integers(0, len(holed)))
        holed[start : start + 200] = bytes(len(holed[start : start + 200]))
        yield f"zeroed{i}.jpg", bytes(holed)
    for i in range(14):
        image = Image.open(files[i]).convert("RGB")
        suffix = (".png", ".tif", ".bmp", ".webp")[i % 4]
        yield f"jpeg{i}{suffix}", contents[i]
        yield f"png{i}.jpg", saved(image, "PNG")
        yield f"cmyk{i}.jpg", saved(image.convert("CMYK"), "JPEG")
        yield f"palette{i}.png", saved(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG", transparency=i)
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        yield f"sixteen{i}{suffix}", saved(Image.fromarray(grey), "TIFF" if i % 2 else "PNG")
        frames = [image, image.rotate(90)]
        yield (
            f"animated{i}{suffix}",
            saved(frames[0], ("GIF", "PNG", "WEBP")[i % 3], save_all=True, append_images=frames[1:]),
        )
        exif = Image.Exif()
        exif[0x0112] = i % 8 + 1
        yield f"turned{i}.jpg", saved(image.resize((120, 80)), "JPEG", exif=exif)
    for i in range(4):
        yield f"wide{i}.jpg", saved(Image.open(files[i]).convert("RGB").resize((30_000, 150 + i)), "JPEG")
        yield f"line{i}.png", saved(Image.new("RGB", (30_000, 1 + i)), "PNG")
        yield f"bomb{i}.png", png_header(60_000, 60_000 + i)
        yield f"empty{i}.jpg", b""
        yield f"text{i}.jpg", b"This is no image but number %d." % i
        yield f"page{i}.png", b"<html><img src='%d'></html>" % i
        yield f"alpha{i}.png", saved(Image.open(files[i]).convert("RGBA").rotate(30 + i), "PNG")
        yield f"bits{i}.png", saved(Image.open(files[i]).convert("1"), "PNG")


def pillow(content: bytes) -> Image.Image | None:
    """An upright image by Pillow alone, or None where it refuses or where it would not fit a bound on pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(content), formats=FORMATS))
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # of 16 bits the higher 8
            image.convert("RGB")
    except Exception:  # damaged files make Pillow raise anything; whatever it is, Pillow refuses the file
        return None
    short, long = sorted(image.size)
    return image if long * 224 / short * 224 < 89_000_000 else None


@pytest.mark.usefixtures("local_ray")
def test_every_file_is_rejected_with_a_reason_or_embedded_as_open_clip_does(
    pacs_sample: Path, tmp_path: Path, tiny_random: dict[str, Any]
) -> None:
    files = sorted((pacs_sample / "PACS").rglob("*.jpg"))[::5]
    made = dict(mutations(files))
    assert len(made) >= 300
    for i, (name, content) in enumerate(made.items()):
        place = tmp_path / "odd" / f"env{i % 2}" / f"class{i // 2 % 2}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    recipe = parse_recipe(
        {
            "name": "odd",
            "datasets": [{"name": "odd", "root": str(tmp_path / "odd")}],
            "backbones": [{**tiny_random, "image_size": 224}],
            "interventions": {"kinds": []},
            "sweep": {"projections": ["identity"]},
            "run": {"max_bad_images": 1.0},
        }
    )
    storage = Storage(str(tmp_path / "store"))
    (subject,) = prepare(recipe, storage, lambda _: None).subjects
    job = EmbedJob(storage, subject.manifest, subject.backbone, subject.facts, subject.views, subject.decoding)
    report = embed(job, recipe.run)

    table = subject.manifest.table
    read = {path: pillow(made[Path(path).name]) for path in table["path"].to_pylist()}
    assert set(report.rejected) == {path for path, image in read.items() if image is None}
    assert all(reason.strip() for reason in report.rejected.values())
    assert len(report.rejected) > 50
    accepted = [
        (path, image_id) for path, image_id in zip(read, table["image_id"].to_pylist(), strict=True) if read[path]
    ]
    assert len(accepted) > 150
    stored = store.read(storage, subject.views[0], [image_id for _, image_id in accepted])
    backbone = Backbone(subject.backbone)
    transform = image_transform_v2(PreprocessCfg(**backbone.preprocess), is_train=False)
    for (path, _), ours in zip(accepted, stored, strict=True):
        with torch.inference_mode():
            theirs = backbone.encoder.encode_images(transform(read[path])[None])[0]
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5, err_msg=path)
    print(f"{len(made)} files: {len(accepted)} embedded as open_clip does, {len(report.rejected)} rejected")


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICM_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_own_cache")
def test_every_changed_input_is_read_as_it_is_or_ends_in_one_sentence() -> None:
    """Images, tar, Parquet, YAML, JSON and CSV: 300 of them, or as many as ICM_BENCH_MUTATIONS says."""
    outcomes: Counter[tuple[str, str]] = Counter()
    for seed in range(mutated_inputs.COUNT):
        kind, start = mutated_inputs.kind_of(seed), time.process_time()
        outcome, found = mutated_inputs.outcome(seed)
        assert time.process_time() - start < 10, seed
        outcomes[kind, outcome] += 1
        if outcome in ("sentence", "reason"):
            assert found.strip(), seed
            assert "\n" not in found, seed
            assert len(found) < 1_000, seed
        elif kind == "image":  # whatever the change did, Pillow sees the same in it
            theirs = pillow(mutated_inputs.mutated_by(seed)[1])
            assert theirs is not None, seed
            assert found == mutated_inputs.digest(theirs.convert("RGB")), seed
        elif outcome == "other" and kind in ("tar", "Parquet"):  # no image is lost or comes twice without a word
            assert len(found) == len({row["path"] for row in found}) == len(mutated_inputs.PATHS), seed
    assert {kind for kind, _ in outcomes} == set(mutated_inputs.KINDS)
    assert sum(count for (_, outcome), count in outcomes.items() if outcome != "clean") > mutated_inputs.COUNT / 2
    print(*(f"{kind}, {outcome}: {count}" for (kind, outcome), count in sorted(outcomes.items())), sep="\n")


@pytest.mark.usefixtures("_own_cache")
def test_the_command_ends_in_one_sentence_too(
    tmp_path: Path, tiny_random: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fifty-six changed recipes, shards, Parquet files and tables through `icm-bench plan`."""
    names = {"tar": "0.tar", "Parquet": "0.parquet", "CSV": "groups.csv"}
    codes: Counter[int] = Counter()
    for seed in [seed for seed in range(1_000) if mutated_inputs.kind_of(seed) in (*names, "YAML")][:56]:
        folder, kind = tmp_path / str(seed), mutated_inputs.kind_of(seed)
        folder.mkdir()
        _, content, _ = mutated_inputs.mutated_by(seed)
        recipe = folder / "r.yaml"
        if kind == "YAML":
            recipe.write_bytes(content)
        else:
            for path, image in mutated_inputs.CONTENTS.items() if kind == "CSV" else ():
                (folder / "set" / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / "set" / path).write_bytes(image)
            (folder / "set").mkdir(exist_ok=True)
            (folder / "set" / names[kind]).write_bytes(content)
            dataset = {"name": "small", "root": str(folder / "set")}
            more = {"interventions": {"kinds": []}, "sweep": {"projections": ["identity"]}}
            recipe.write_text(json.dumps({"name": "r", "datasets": [dataset], "backbones": [tiny_random], **more}))
        code = main(["plan", str(recipe), "--store", str(folder / "store")])
        said = [
            line for line in capsys.readouterr().err.splitlines() if "identifying" not in line and "Note:" not in line
        ]
        codes[code] += 1
        assert code in (0, 2), seed
        if code:
            assert len(said) == 1, (seed, said)
            assert "Traceback" not in said[0]
    assert min(codes[0], codes[2] - 30) > 0
    print(codes)
