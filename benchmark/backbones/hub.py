"""The Hugging Face hub: whether it is reachable, and checks of a model's files other than weights.

If the hub is unreachable, the variable HF_HUB_OFFLINE is set. The hub's client then uses the local cache at once, or
reports a missing file; without the variable it would retry for a minute.
"""

import os
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmark.common.errors import IcmBenchError

_TRUE = {"1", "ON", "YES", "TRUE"}  # values of environment variables that the hub's client takes for true
TIMEOUT = 5.0  # seconds until the hub counts as unreachable
TOKENIZER = "tokenizer"
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model")
WITHOUT_NETWORK = (
    "what works without a network are checkpoint files, folders, what was fetched before, and most random weights"
)


def go_offline_unless_reachable() -> bool:
    """Return whether the hub is reachable; if not, set the hub's client offline.

    Call it before a model is loaded from the hub.
    """
    if any(os.environ.get(name, "").upper() in _TRUE for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        return False
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if is_reachable(endpoint):
        return True
    os.environ["HF_HUB_OFFLINE"] = "1"
    if constants := sys.modules.get("huggingface_hub.constants"):  # the client reads the variable only when imported
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
    return False


@cache
def is_reachable(url: str) -> bool:
    """Return whether a URL answers within `TIMEOUT`, through a proxy if one is set. Cached for the process."""
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(_reaches(url)), daemon=True)
    asking.start()
    asking.join(TIMEOUT)  # name resolution may take longer than the timeout
    return bool(found and found[0])


def _reaches(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:  # an SSL error: the client may have certificates that Python lacks
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError):
        return False


def check_text_files(name: str, text: Mapping[str, Any]) -> None:
    """Raise IcmBenchError if the hub's files in `text` (open_clip's `text_cfg`) are neither cached nor reachable."""
    model, tokenizer = text.get("hf_model_name"), text.get("hf_tokenizer_name") or text.get("hf_model_name")
    parts = {"configuration of the text tower": model, TOKENIZER: tokenizer}
    needed = {what: place for what, place in parts.items() if place and not Path(place).is_absolute()}
    if not needed:  # part of open_clip
        return
    if find_spec("transformers") is None:
        raise IcmBenchError(f"The texts of '{name}' need transformers: pip install 'icm-bench[transformers]'.")
    missing = [
        f"the {what} '{place}'"
        for what, place in needed.items()
        if not has_cached_file(place, TOKENIZER_FILES if what == TOKENIZER else ("config.json",))
    ]
    if missing and not go_offline_unless_reachable():
        raise IcmBenchError(
            f"The backbone '{name}' needs {' and '.join(missing)} of the Hugging Face hub, which does not answer and "
            f"was not asked before: connect, or copy the folder HF_HOME of a machine that has it; {WITHOUT_NETWORK}."
        )


def has_cached_weights(place: str) -> bool:
    """Return whether the hub's local cache has weights of the model in the repository `place`."""
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{place.replace('/', '--')}" / "snapshots"
    return any(file.suffix in (".safetensors", ".bin", ".pt") for file in snapshots.glob("*/*"))


def has_cached_file(place: str, files: Sequence[str] = ("config.json",)) -> bool:
    """Return whether the hub's local cache has at least one of `files` of the repository `place`."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(place, file), str) for file in files)
