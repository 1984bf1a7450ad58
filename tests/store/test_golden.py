"""The bytes behind the versions that are raised by hand: they stay as long as the version does.

A test that fails here says that a store of yesterday and one of today differ. Where that is meant, raise the version
(old embeddings or moments are then made anew instead of being mixed with new ones) and write down the new digest under
it. Where it is not meant, something has changed numbers by accident. Another Pillow, torch or safetensors counts too.
"""

import hashlib
import io

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from benchmark.embedding.images import Geometry, model_input, model_input_views
from benchmark.method.evaluation.cells import Layout, cells_of
from benchmark.method.evaluation.splits import Split
from benchmark.method.interventions import INTERVENTIONS
from benchmark.store.embeddings import STORE_VERSION, Decoding, chunk_size, part_name, view_of
from benchmark.store.moments import VERSION as MOMENTS_VERSION
from benchmark.store.moments import packed
from benchmark.store.sealed import digest_of
from benchmark.sweep.summing import ImageIndex, Pairing, Shuffle, SumTask, file_of

STORE_KEYS = {6: "d8ffa42ac9bcea93cac5b6c0ee0117e3099bc1d36d21ecac9a17e86ad535999b"}
STORE_PIXELS = {6: "808b09266b844391af101eb4222f372b5ac1bf269e41058fbe1674fa7695a3bb"}
MOMENTS = {5: "8d89251e4751beb84756f532d7a60f69681d82378b25eece57906066ba662caf"}  # names hold the STORE_VERSION
REMEDY = "bytes of the store have changed: raise {} and note the new digest here, or undo the change"

GEOMETRY = Geometry(size=(32, 32), resize_mode="shortest", bilinear=False, fill=0)


def digest(*contents: bytes) -> str:
    return hashlib.sha256(b"\0".join(contents)).hexdigest()


def encoded(width: int, height: int, kind: str) -> bytes:
    """A picture that is the same everywhere, as a file."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x * 7 % 256, y * 5 % 256, x * y % 256], axis=-1).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def test_keys_parts_and_the_cut_into_chunks() -> None:
    kinds = [None, *(INTERVENTIONS.create(name) for name in INTERVENTIONS.names())]
    decodings = [Decoding(at_source, draft) for at_source in (False, True) for draft in (False, True)]
    decodings += [Decoding(upright=False), Decoding(resize="torch")]
    names = [
        part_name(view_of("data", 130, {"fingerprint": "weights"}, kind, 3, decoding).directory, 2)
        for kind in kinds
        for decoding in decodings
    ]
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(6, dtype=np.float32)), 3)
    table = pa.table({"image_id": ["a", "b"], "label": [0, 1], "embedding": values})
    names.append(digest_of(table, names[0]))
    sizes = [chunk_size(images) for images in (1, 16_384, 16_385, 10**7)]
    found = digest(*(name.encode() for name in names), str(sizes).encode())
    assert found == STORE_KEYS[STORE_VERSION], REMEDY.format("STORE_VERSION")


def test_pixels_of_decoding_and_of_every_built_in_intervention() -> None:
    files = [encoded(400, 300, kind) for kind in ("PNG", "JPEG", "GIF")]
    decodings = (Decoding(draft=False), Decoding(), Decoding(resize="torch"))
    decoded = [model_input(content, GEOMETRY, decoding) for content in files for decoding in decodings]
    kinds = [INTERVENTIONS.create(name) for name in INTERVENTIONS.names()]
    image = torch.from_numpy(decoded[0].copy()).permute(2, 0, 1)[None].contiguous()
    views = [kind.views(image, ["an image"], 3).contiguous().numpy() for kind in kinds]
    every = [(None, 3), *((kind, 3) for kind in kinds)]
    views += [model_input_views(files[0], GEOMETRY, Decoding(at_source=True), "an image", every)]
    pixels = (np.ascontiguousarray(array).tobytes() for array in (*decoded, *views))
    assert digest(*pixels) == STORE_PIXELS[STORE_VERSION], REMEDY.format("STORE_VERSION")


def test_moments_and_the_names_of_their_files() -> None:
    n, dim, classes = 40, 3, 4
    z = (np.arange(n * dim).reshape(n, dim) * 7 % 11).astype(np.float32)
    layout = Layout(np.arange(n) % 2, np.arange(n) // 2 % classes, (np.arange(n) % 5 == 0).astype(np.int64), classes, 2)
    cells = cells_of(layout, z, {"invert": 10 - z})
    view = view_of("data", n, {"fingerprint": "weights"}, None, 0)
    images = ImageIndex(view, [str(i) for i in range(n)], np.zeros(n, np.int64), {Split(0): layout}, ["a", "b"], dim)
    both = view, view
    kinds = Pairing("invert", (view,)), Pairing("one of a, b", both), Pairing("all", both, (1.0, 2.0), Shuffle(0, 1))
    names = [
        file_of(images, SumTask(Split(0), "raw", halves, kind)) for halves in (True, False) for kind in (None, *kinds)
    ]
    contents = [packed(cells, kind, name) for kind, name in zip((None, "invert"), names, strict=False)]
    assert digest(*contents, *(name.encode() for name in names)) == MOMENTS[MOMENTS_VERSION], REMEDY.format("VERSION")
