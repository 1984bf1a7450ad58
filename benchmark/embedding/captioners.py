"""What describes images, and what rewrites texts, on the nodes of the cluster: open_clip, transformers, your own."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.backbones.loading import Backbone, best_device
from benchmark.backbones.spec import BackboneSpec
from benchmark.common.errors import IcmBenchError
from benchmark.common.registry import ClassRegistry
from benchmark.common.storage import reason
from benchmark.embedding.images import Geometry

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_TOKENS = 40  # of a caption


class Captioner(ABC):
    """Describes images. One of your own is made without arguments, once on each node (or GPU).

    Args:
        model: what stands behind the colon of `open_clip:` and `hf:`; empty for one of your own.
    """

    def __init__(self, model: str = "") -> None:
        self.model = model

    @abstractmethod
    def captions(self, images: "Sequence[Image]") -> list[str]:
        """Return one caption for each image.

        Args:
            images: upright, in RGB, of any size; a large JPEG at reduced scale.
        """


CAPTIONERS: ClassRegistry[Captioner] = ClassRegistry(
    "captioner",
    Captioner,  # type: ignore[type-abstract]
    {
        "open_clip": "benchmark.embedding.captioners:OpenClipCaptioner",
        "hf": "benchmark.embedding.captioners:TransformersCaptioner",
    },
)


def captioner_class(name: str) -> tuple[type[Captioner], tuple[str, ...]]:
    """Return the class of a recipe's captioner, and what it is made with.

    Raises:
        IcmBenchError: there is no such class, or transformers is not installed where it needs that.
    """
    kind, _, model = name.partition(":")
    if kind not in CAPTIONERS.names():
        return CAPTIONERS.component_class(name), ()
    if kind == "hf":
        check_transformers(name)
    return CAPTIONERS.component_class(kind), (model,)


def check_transformers(name: str) -> None:
    """Make sure that transformers is installed.

    Raises:
        IcmBenchError: it is not; names the model that needs it.
    """
    if importlib.util.find_spec("transformers") is None:
        raise IcmBenchError(f"'{name}' needs transformers: pip install 'icm-bench[transformers]'.")


class OpenClipCaptioner(Captioner):
    """A generative model of open_clip, such as CoCa, that says the likeliest word after the other.

    Args:
        model: `MODEL/PRETRAINED`, or a folder in open_clip's layout.

    Raises:
        IcmBenchError: there is no such model, or it generates no text.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        self._backbone = Backbone(_spec(model))
        if not hasattr(self._backbone.encoder.module, "text_decoder"):
            raise IcmBenchError(
                f"captions.captioner: '{model}' of open_clip writes no text; name a generative one, such as "
                f"coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k."
            )

    def captions(self, images: "Sequence[Image]") -> list[str]:
        """Return one caption for each image."""
        import torch
        from open_clip.tokenizer import SimpleTokenizer

        backbone, tokenizer = self._backbone, SimpleTokenizer()
        preprocess, device, end = backbone.preprocess, backbone.device, tokenizer.eot_token_id
        geometry = Geometry.of(preprocess)
        pixels = torch.from_numpy(np.stack([np.asarray(geometry(image)) for image in images])).to(device)
        mean, std = (torch.tensor(preprocess[name], device=device).view(3, 1, 1) for name in ("mean", "std"))
        said = torch.full((len(images), 1), tokenizer.sot_token_id, device=device)
        with torch.inference_mode():
            seen = backbone.encoder.module((pixels.permute(0, 3, 1, 2) / 255 - mean) / std)
            known = {"image_latent": seen["image_features"], "image_embs": seen["image_embs"]}
            while said.shape[1] < MAX_TOKENS and not (said == end).any(dim=1).all():
                logits = backbone.encoder.module(None, said, output_labels=False, **known)["logits"]
                said = torch.cat([said, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
        tokens = [row[1 : row.index(end) if end in row else None] for row in said.tolist()]
        return [tokenizer.decode([t for t in row if t != tokenizer.sot_token_id]) for row in tokens]


def _spec(model: str) -> BackboneSpec:
    """Return how a model of open_clip is loaded."""
    if Path(model).is_dir():
        return BackboneSpec(name=Path(model).name, folder=str(Path(model).absolute()))
    name, _, pretrained = (model, "", None) if model.startswith("hf-hub:") else model.partition("/")
    return BackboneSpec(name=name, pretrained=pretrained or None)


class TransformersCaptioner(Captioner):
    """An image-to-text model of transformers, such as BLIP, GIT or ViT-GPT2; its weights are safetensors.

    Args:
        model: name on the Hugging Face hub, or a folder.

    Raises:
        IcmBenchError: it cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        super().__init__(model)
        from transformers import AutoImageProcessor

        self._processor = _loaded(AutoImageProcessor, model)
        self._tokenizer, self._network = _language("AutoModelForImageTextToText", model)

    def captions(self, images: "Sequence[Image]") -> list[str]:
        """Return one caption for each image."""
        import torch

        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._network.device)
        with torch.inference_mode():
            tokens = self._network.generate(pixel_values=pixels, max_new_tokens=MAX_TOKENS, do_sample=False)
        return list(self._tokenizer.batch_decode(tokens, skip_special_tokens=True))


class TransformersRewriter:
    """A language model of transformers that answers one prompt after the other, each with a seed of its own.

    Args:
        model: name on the Hugging Face hub, or a folder.
        temperature: 0 for the likeliest words.
        max_tokens: most tokens of an answer.

    Raises:
        IcmBenchError: it cannot be loaded.
    """

    def __init__(self, model: str, temperature: float, max_tokens: int) -> None:
        self._tokenizer, self._network = _language("AutoModelForCausalLM", model)
        chosen = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        self._options = {**chosen, "max_new_tokens": max_tokens, "pad_token_id": self._tokenizer.eos_token_id}
        self._max_tokens = max_tokens

    def answer(self, prompt: str, seed: int) -> tuple[str, str]:
        """Return the answer to a prompt, and `stop` or, where it was cut off, `length`."""
        import torch

        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": prompt}]
            prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        asked = tokenizer(prompt, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)
        asked = asked.to(self._network.device)
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = self._network.generate(**asked, **self._options)[0, asked["input_ids"].shape[1] :]
        is_whole = len(tokens) < self._max_tokens or int(tokens[-1]) == tokenizer.eos_token_id
        return tokenizer.decode(tokens, skip_special_tokens=True), "stop" if is_whole else "length"


def _language(kind: str, model: str) -> tuple[Any, Any]:
    """Return tokenizer and network of a model that writes text."""
    import transformers

    tokenizer = _loaded(transformers.AutoTokenizer, model)
    network = _loaded(getattr(transformers, kind), model, use_safetensors=True)
    return tokenizer, network.to(best_device()).eval()


def _loaded(kind: Any, model: str, **options: Any) -> Any:
    """Return a part of a model of transformers; code that comes with weights is not run."""
    try:
        return kind.from_pretrained(model, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise IcmBenchError(f"The model 'hf:{model}' cannot be loaded ({reason(error)}).") from error
