"""Host and device: draws need no torch, and operations read nothing back from where the images are.

Torch's `meta` device has no values, so that whatever would wait for a GPU raises there.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.method.interventions import INTERVENTIONS, Intervention, base, pixels, view_rng
from benchmark.method.interventions.photometric import ColorJitter

IDS = [f"id-{i}" for i in range(64)]
KINDS = [*INTERVENTIONS.names(), {"name": "gaussian_blur", "sigma": [0.2, 6]}]


class Copies(TorchDispatchMode):
    """Counts operations on `meta`, and refuses host tensors in them outside `to_device`: such copies wait for a GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.operations, self.allowed = 0, False
        for module in (base, pixels):
            monkeypatch.setattr(module, "to_device", self.to_device)

    def to_device(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        self.allowed = True
        try:
            return tensor.to(device)
        finally:
            self.allowed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given, made = (
            {x.device.type for x in tree_leaves(tree) if isinstance(x, torch.Tensor)}
            for tree in ((args, kwargs), result)
        )
        if "meta" in made:
            self.operations += 1
            assert self.allowed or "cpu" not in given, f"{func} has a tensor of the host"
        return result


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Iterator[Copies]:
    with Copies(monkeypatch) as mode:
        yield mode


@pytest.mark.parametrize("count", [1, 64])
@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_built_in_kinds_read_nothing_back(spec: object, count: int, copies: Copies) -> None:
    images, kind = torch.empty(count, 3, 224, 224, dtype=torch.uint8, device="meta"), INTERVENTIONS.create(spec)
    views = kind.apply_draws(images, kind.draws(IDS[:count], 0))
    assert views.device == images.device
    assert copies.operations < 270  # colour jitter: 233; with each of four positions times four steps, 461


def _constants(images: torch.Tensor) -> torch.Tensor:
    return images + torch.tensor([1, 2, 3], dtype=torch.uint8, device=images.device).view(3, 1, 1)


@pytest.mark.parametrize(
    "fault",
    [
        lambda images: images + images.max().item(),
        lambda images: images + images[0, 0, 0].tolist()[0],
        lambda images: images.cpu().bitwise_not(),
        lambda images: images if images.max() > 3 else images + 1,
        lambda images: images.index_fill(0, (images[:, 0, 0, 0] > 3).nonzero()[:, 0], 0),
        lambda images: images[images[:, 0, 0, 0] > 3],
        _constants,
    ],
    ids=["item", "tolist", "cpu", "bool", "nonzero", "mask", "constants"],
)
def test_a_planted_fault_is_seen(fault: Callable[[torch.Tensor], torch.Tensor], copies: Copies) -> None:  # noqa: ARG001
    class Planted(Intervention):
        def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
            return fault(images)

    images = torch.full((2, 3, 4, 4), 9, dtype=torch.uint8)
    Planted().views(images, ["a", "b"], 0)
    # Torch refuses to read from `meta` with the first or the second; blocking copies are refused by `copies`.
    with pytest.raises((NotImplementedError, RuntimeError, AssertionError), match=r"meta|host"):
        Planted().views(images.to("meta"), ["a", "b"], 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("spec", KINDS, ids=str)
def test_a_gpu_is_not_waited_for(spec: object, many: torch.Tensor) -> None:
    images, kind = many.cuda(), INTERVENTIONS.create(spec)
    draws = kind.draws(IDS, 0)
    expected = kind.apply_draws(many, draws)
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = kind.apply_draws(images, draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(views.cpu(), expected)


def test_a_copy_to_a_gpu_comes_from_pinned_memory_and_is_not_waited_for() -> None:
    tensor = MagicMock(**{"numel.return_value": 3}, device=torch.device("cpu"))
    base.to_device(tensor, torch.device("cuda"))
    tensor.pin_memory().to.assert_called_once_with(torch.device("cuda"), non_blocking=True)
    base.to_device(tensor, torch.device("cpu"))
    tensor.to.assert_called_once_with(torch.device("cpu"), non_blocking=False)


class Drawing(Intervention):
    """Draws two numbers and keeps what it was given."""

    def draw(self, rng: np.random.Generator) -> tuple[float, int]:
        return rng.normal(), int(rng.integers(9))

    def apply(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        assert drawn.dtype == torch.float64
        assert drawn.shape == (len(images), 2)
        assert drawn.device.type == ("cpu" if self.draws_on_host else images.device.type)
        return images


class OnHost(Drawing):
    """Asks for its draws on the host."""

    draws_on_host = True


@pytest.mark.parametrize("kind", [Drawing(), OnHost()])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_class_gets_its_draws_where_the_images_are_or_on_the_host(kind: Intervention, device: str) -> None:
    kind.apply_draws(torch.empty(3, 3, 2, 2, dtype=torch.uint8, device=device), kind.draws(IDS[:3], 0))


@pytest.mark.parametrize("kind", [*map(INTERVENTIONS.create, KINDS), Drawing()], ids=str)
def test_draws_are_those_of_each_images_own_generator(kind: Intervention) -> None:
    draws = kind.draws(IDS, 5)
    assert draws.dtype == np.float64
    what = json.dumps({"name": kind.name, **kind.params}, sort_keys=True)
    rows = [[*kind.draw(view_rng(5, image_id, what))] for image_id in IDS]
    np.testing.assert_array_equal(draws, np.array(rows).reshape(64, -1))
    np.testing.assert_array_equal(kind.draws(IDS[7:9], 5), draws[7:9])


def test_draws_need_no_torch() -> None:
    code = (
        "import sys; from benchmark.method.interventions import INTERVENTIONS as kinds\n"
        "for name in kinds.names(): kinds.create(name).draws(['a', 'b'], 0)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_order_of_the_colour_steps_is_kept(many: torch.Tensor) -> None:
    """A batch takes its steps in rounds; an image alone takes them one after the other."""
    orders = list(permutations(range(4)))
    draws = np.concatenate([ColorJitter().draws(IDS[:24], 0)[:, :4], orders], axis=1)
    whole = ColorJitter().apply_draws(many[:24], draws)
    for i in range(24):
        assert torch.equal(whole[i : i + 1], ColorJitter().apply_draws(many[i : i + 1], draws[i : i + 1]))
