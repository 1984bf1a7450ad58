"""Thumbnails in sprites: their size, their order, what bounds them, and that they are the same every time."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.common.errors import IcmBenchError
from benchmark.datasets.manifest import Manifest, read_manifest
from benchmark.datasets.spec import DatasetSpec
from benchmark.embedding import thumbnails as module
from benchmark.embedding.opening import UnreadableImage
from benchmark.embedding.thumbnails import ROWS, SIZE, packed, thumbnail, thumbnails
from tests.conftest import make_toy


def png(width: int, height: int, color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "PNG")
    return file.getvalue()


def noise(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)) for _ in range(n)]


def opened(sprite: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(sprite))
    assert image.format == "WEBP"
    return image.convert("RGB")


def test_all_that_a_page_may_hold_is_within_its_bytes() -> None:
    sprites = packed(noise(ROWS) * 6)  # noise takes more bytes than any photograph: as much as 2,000 of these
    assert 0 < sum(len(base64.b64encode(sprite)) for sprite in sprites) <= module.MAX_BYTES


@pytest.fixture
def toy(tmp_path: Path) -> Manifest:
    root = make_toy(tmp_path / "toy")
    (root / "env0" / "cat" / "bad.png").write_bytes(b"no image")
    (root / "env0" / "cat" / "copy.png").write_bytes((root / "env0" / "cat" / "0.png").read_bytes())
    return read_manifest(DatasetSpec(name="toy", root=str(root)))


def ids_of(manifest: Manifest) -> dict[str, str]:
    return dict(zip(manifest.table["path"].to_pylist(), manifest.table["image_id"].to_pylist(), strict=True))


@pytest.mark.parametrize("size", [(300, 200), (40, 40), (7, 90)])
def test_an_image_keeps_its_shape_within_the_square(size: tuple[int, int]) -> None:
    pixels = np.asarray(thumbnail(png(*size)))
    assert pixels.shape == (SIZE, SIZE, 3)
    seen = (pixels != 128).any(axis=2)
    assert (seen.any(axis=0).sum(), seen.any(axis=1).sum()) == tuple(round(SIZE * side / max(size)) for side in size)


@pytest.mark.parametrize("content", [b"no image", png(1, 400)])
def test_what_cannot_be_seen_is_no_thumbnail(content: bytes) -> None:
    with pytest.raises(UnreadableImage):
        thumbnail(content)


def test_images_stand_in_the_order_that_is_asked_for_and_once(toy: Manifest) -> None:
    paths = ids_of(toy)
    asked = ["env2/dog/1.png", "env0/cat/bad.png", "env0/cat/0.png", "env0/cat/copy.png", "env1/dog/3.png"]
    kept = ["env2/dog/1.png", "env0/cat/0.png", "env1/dog/3.png"]
    names, (sprite,) = thumbnails([toy], [paths[path] for path in asked] + ["unheard of"])
    assert names == [paths[path] for path in kept]
    image = opened(sprite)
    assert image.size == (SIZE, 3 * SIZE)
    shown = np.asarray(image).reshape(3, SIZE, SIZE, 3).mean(axis=(1, 2, 3))
    root = Path(toy.reader.uri)
    for path, mean in zip(kept, shown, strict=True):
        assert mean == pytest.approx(np.asarray(thumbnail((root / path).read_bytes())).mean(), abs=3)


def test_equal_images_give_equal_bytes_and_there_are_no_more_than_the_bound(
    toy: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [name for path, name in ids_of(toy).items() if "bad" not in path]
    assert thumbnails([toy], ids) == thumbnails([toy, toy], ids)
    monkeypatch.setattr(module, "MAX_IMAGES", 5)
    names, (sprite,) = thumbnails([toy], ids)
    assert names == list(dict.fromkeys(ids))[:5]
    assert opened(sprite).height == 5 * SIZE


def test_quality_falls_before_images_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(2 * ROWS + 10)
    sizes = []
    for bound in (10**9, 400_000, 150_000, 10):
        monkeypatch.setattr(module, "MAX_BYTES", bound)
        sprites = packed(images)
        sizes.append((len(sprites), sum(len(base64.b64encode(sprite)) for sprite in sprites)))
        assert sizes[-1][1] <= bound
    assert [n for n, _ in sizes] == sorted((n for n, _ in sizes), reverse=True)
    assert (sizes[0][0], sizes[-1]) == (3, (0, 0))
    assert 0 < sizes[2][0] < 3


def test_a_file_that_is_gone_is_named(toy: Manifest) -> None:
    (Path(toy.reader.uri) / "env0" / "dog" / "2.png").unlink()
    with pytest.raises(IcmBenchError, match=r"dog/2\.png"):
        thumbnails([toy], list(ids_of(toy).values()))
