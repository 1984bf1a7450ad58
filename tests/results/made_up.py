"""Made-up records: plain prediction and one method, in two environments with 40 images each; they are no results."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmark.method.arrays import Mask
from benchmark.results.answers import answered
from benchmark.results.checking import NO_VERDICT, judged_together
from benchmark.results.records import Details, Published, Publisher, numbers_of

HELD_OUTS, CLASSES = ["art", "photo"], ["cat", "dog"]
RECIPE: dict[str, Any] = {
    "name": "made-up",
    "datasets": [{"name": "emoji_styles", "layout": "auto"}],
    "backbones": [{"name": "MiniLiT", "precision": "float32"}],
    "prompts": {"templates": ["a {}."], "by_dataset": {}},
    "sweep": {"folds": 2, "seeds": [0]},
}
ABOUT = Publisher("Ada's lab", "other", {"": "ada/minilit"}, 1_000_000_000)
DETAILS = Details(
    recipe_name="made-up", recipe_hash="f" * 64, recipe=RECIPE, publication="0" * 32, dataset="emoji_styles",
    data_fingerprint="a" * 64, grouped=False, metric="accuracy", encoder="MiniLiT", weights_fingerprint="b" * 64,
    random_weights=False, precision="float32", engine="auto", availability="open_weights", prompts=["a {}."],
    protocol="held_out", test_split="out_fold", class_half="all", folds=2, seeds=[0], held_outs=HELD_OUTS,
    classes=CLASSES, rule="lodo", looks_at_target=False, method="zero-shot", projection="identity", predictor="zero_shot",
    code_version=["0.1.0+abc"], versions={"icm-bench": "0.1.0", "numpy": "2.0.0"}, machine=["a processor"],
)  # fmt: skip


def answers(wrong: Mask) -> pd.DataFrame:
    """Return answers to 80 images, shape (80,); `wrong` says which are not the class."""
    label = np.tile(np.array(CLASSES), 40)
    environment = np.repeat(HELD_OUTS, 40)
    return pd.DataFrame({
        "sample": np.array([f"{of}/{number}.png" for number, of in enumerate(environment)]),
        "environment": environment, "held_out": environment, "group": "", "half": "all", "seed": 0,
        "fold": np.arange(80) % 2, "label": label, "predicted": np.where(wrong, label[::-1], label), "kept_plain": False,
    })  # fmt: skip


def records(plain: pd.DataFrame, ours: pd.DataFrame, about: Publisher = ABOUT, **changes: Any) -> list[Published]:
    """Return the record of plain prediction and that of a method, with numbers and a verdict from their answers."""
    base = replace(DETAILS, **changes)
    name = base.uuid(next(iter(about.model_ids.values())))
    method = replace(base, method="Shrinkage + zero-shot", projection="shrinkage", plain=name, verdict=NO_VERDICT)
    numbers = [numbers_of(answered([plain])[0], None), numbers_of(*answered([ours, plain]))]
    return judged_together([Published(base, about, numbers[0], plain), Published(method, about, numbers[1], ours)])
