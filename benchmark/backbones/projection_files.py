"""Exported projections as two small files: `projection.safetensors` (tensor "A", shape (k, D)) and `projection.json`.

If texts have another map than images, as with shrinkage of one side, a second tensor, "A_text", has the map of texts.

The files can be used without this package. With an open_clip `model`, `images` and `tokens`, and the files in `folder`:

    from torch.nn.functional import normalize
    from safetensors.torch import load_file
    maps = load_file(f"{folder}/projection.safetensors")
    z = normalize(model.encode_image(images) @ maps["A"].T, dim=-1)
    t = normalize(model.encode_text(tokens) @ maps.get("A_text", maps["A"]).T, dim=-1)
    logits = model.logit_scale.exp() * z @ t.T

With this package, `ProjectedEncoder(model, read_projection(folder))` replaces the model.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.common.errors import IcmBenchError
from benchmark.common.storage.files import Storage

FORMAT_VERSION = 1
WITH_TEXTS = 2  # format version of files with "A_text", which readers of version 1 would ignore
TENSOR_FILE, FACTS_FILE = "projection.safetensors", "projection.json"
NORMALIZE = ("none", "before", "after", "both")
_REMEDY = "export the projection again"


@dataclass(frozen=True)
class ExportedProjection:
    """An exported projection.

    Attributes:
        matrix: the projection A, shape (k, D), float32; `embeddings @ matrix.T` are projected embeddings.
        provenance: origin of the projection, with at least three keys: `backbone` (the backbone's label), `fingerprint`
            (of its weights), and `normalize` (`none`, `before`, `after` or `both`: whether image embeddings were scaled
            to unit length before or after the projection, when it was estimated and evaluated).
        text_matrix: the map of text embeddings, shape (k, D); None (default) if texts have the same map as images.
    """

    matrix: NDArray[np.float32]
    provenance: dict[str, Any]
    text_matrix: NDArray[np.float32] | None = None

    @property
    def rank(self) -> int:
        """Number k of kept directions."""
        return int(self.matrix.shape[0])

    @property
    def dim(self) -> int:
        """Embedding width D."""
        return int(self.matrix.shape[1])


def write_projection(
    folder: Path,
    basis_vectors: NDArray[np.floating],
    provenance: Mapping[str, Any],
    text_vectors: NDArray[np.floating] | None = None,
) -> None:
    """Write a projection into `folder`, which is created if needed. An older projection in it is replaced.

    Each file is written atomically, `projection.json` last. If only the first file was replaced, readers detect that
    the two files do not match.

    Args:
        folder: the folder to write into.
        basis_vectors: the first k columns of a basis, shape (D, k), 1 <= k <= D.
        provenance: origin of the projection: a JSON-serialisable mapping with the keys of
            `ExportedProjection.provenance`.
        text_vectors: the columns for texts, shape (D, k), if texts have another map. Default: None.

    Raises:
        ValueError: a shape is wrong, a value is not finite in float32, or a key of the provenance is missing.
        TypeError: the provenance is not JSON-serialisable.
        IcmBenchError: the folder cannot be written to.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from benchmark.backbones.projection_files import write_projection
        >>> first_two = np.eye(3)[:, :2]
        >>> facts = {"backbone": "ViT-B-32 openai", "fingerprint": "ab" * 32, "normalize": "none"}
        >>> with TemporaryDirectory() as folder:
        ...     write_projection(Path(folder), first_two, facts)
        ...     sorted(file.name for file in Path(folder).iterdir())
        ['projection.json', 'projection.safetensors']
    """
    from safetensors.numpy import save

    _check_provenance(provenance)
    tensors = {"A": _matrix(basis_vectors)}
    if text_vectors is not None:
        if np.shape(text_vectors) != np.shape(basis_vectors):
            raise ValueError(f"text_vectors must have the shape of basis_vectors, not {np.shape(text_vectors)}.")
        tensors["A_text"] = _matrix(text_vectors)
    content = save(tensors)
    dim, rank = np.shape(basis_vectors)
    facts = {
        "format_version": FORMAT_VERSION if text_vectors is None else WITH_TEXTS,
        "rank": rank,
        "dim": dim,
        "sha256": hashlib.sha256(content).hexdigest(),
        "provenance": dict(provenance),
    }
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    storage = Storage(str(folder))
    storage.write_bytes(TENSOR_FILE, content)
    storage.write_bytes(FACTS_FILE, text.encode("utf-8"))


def _check_provenance(provenance: Mapping[str, Any]) -> None:
    for key in ("backbone", "fingerprint"):
        if not isinstance(provenance.get(key), str) or not provenance[key]:
            raise ValueError(f"The provenance of a projection needs '{key}', the backbone's, as text.")
    if provenance.get("normalize") not in NORMALIZE:
        raise ValueError(f"The provenance of a projection needs 'normalize': one of {', '.join(NORMALIZE)}.")


def _matrix(basis_vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the transpose of `basis_vectors` as A, shape (k, D), in float32."""
    vectors = np.asarray(basis_vectors)
    if vectors.ndim != 2 or not 1 <= vectors.shape[1] <= vectors.shape[0]:
        raise ValueError(f"basis_vectors must have shape (D, k) with 1 <= k <= D, not {vectors.shape}.")
    with np.errstate(over="ignore"):
        a = np.ascontiguousarray(vectors.T, dtype=np.float32)
    if not np.isfinite(a).all():
        raise ValueError("basis_vectors holds NaN, or values that are infinite in float32.")
    return a


def read_projection(folder: Path) -> ExportedProjection:
    """Return the projection in `folder`, after checks of both files. Nothing is unpickled.

    Args:
        folder: the folder into which `write_projection` or `icm-bench export` has written.

    Raises:
        IcmBenchError: a file is missing, damaged or of a later format, or the two files do not match; the message names
            the file.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> from benchmark.backbones.projection_files import read_projection, write_projection
        >>> facts = {"backbone": "ViT-B-32 openai", "fingerprint": "ab" * 32, "normalize": "none"}
        >>> with TemporaryDirectory() as folder:
        ...     write_projection(Path(folder), np.eye(3)[:, :2], facts)
        ...     exported = read_projection(Path(folder))
        >>> exported.rank, exported.dim, exported.provenance["backbone"]
        (2, 3, 'ViT-B-32 openai')
        >>> np.array([[5.0, 6.0, 7.0]]) @ exported.matrix.T
        array([[5., 6.]])
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    facts = _facts(Path(folder) / FACTS_FILE)
    file = Path(folder) / TENSOR_FILE
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != facts["sha256"]:
        raise IcmBenchError(f"{file} is damaged, or not the file that {FACTS_FILE} was written with; {_REMEDY}.")
    try:
        loaded = load(content)
    except (SafetensorError, KeyError) as error:  # KeyError: a dtype that numpy lacks
        raise IcmBenchError(f"{file} holds no tensor 'A' that can be read; {_REMEDY}.") from error
    names = ("A", "A_text") if facts["format_version"] == WITH_TEXTS else ("A",)
    for name in names:
        if (a := loaded.get(name)) is None:
            raise IcmBenchError(f"{file} holds no tensor '{name}' that can be read; {_REMEDY}.")
        if a.dtype != np.float32 or not np.isfinite(a).all():
            raise IcmBenchError(f"{file} holds a matrix that is not of finite float32 numbers; {_REMEDY}.")
        if a.shape != (facts["rank"], facts["dim"]):
            raise IcmBenchError(
                f"{file} holds a matrix of shape {a.shape}, and {FACTS_FILE} says {(facts['rank'], facts['dim'])}; "
                f"{_REMEDY}."
            )
    return ExportedProjection(loaded["A"], facts["provenance"], loaded["A_text"] if "A_text" in names else None)


def _facts(file: Path) -> dict[str, Any]:
    """Return the content of `projection.json`, after checking keys and types."""
    try:
        facts = json.loads(_read(file).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise IcmBenchError(f"{file} is damaged (it is not JSON in UTF-8); {_REMEDY}.") from error
    if not isinstance(facts, dict):
        raise IcmBenchError(f"{file} is damaged (it holds no JSON object); {_REMEDY}.")
    if facts.get("format_version") not in (FORMAT_VERSION, WITH_TEXTS):
        raise IcmBenchError(
            f"{file} has the format {facts.get('format_version')!r:.60}, and this version of icm-bench reads "
            f"{FORMAT_VERSION} and {WITH_TEXTS}; install the version that wrote it, or {_REMEDY}."
        )
    for key, kind in {"rank": int, "dim": int, "sha256": str, "provenance": dict}.items():
        if not isinstance(facts.get(key), kind):
            raise IcmBenchError(f"{file} is damaged (its '{key}' is missing or of the wrong type); {_REMEDY}.")
    try:
        _check_provenance(facts["provenance"])
    except ValueError as error:
        raise IcmBenchError(f"{file} is damaged ({str(error).rstrip('.')}); {_REMEDY}.") from error
    return facts


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise IcmBenchError(
            f"{file} cannot be read ({error.strerror or error}); give the folder that a projection was exported to."
        ) from error
