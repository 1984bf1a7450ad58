"""`ProjectedEncoder`: a dual encoder with projected image and text embeddings, for users of exported projections."""

from typing import Any

import torch
from torch.nn.functional import linear, normalize

from benchmark.backbones.projection_files import ExportedProjection


class ProjectedEncoder(torch.nn.Module):
    """An open_clip model, followed by a projection A of shape (k, D).

    It can replace the model, for example in a zero-shot classifier. An embedding z becomes A z, of width k, in float32.
    As in the benchmark, text embeddings are scaled to unit length before the projection; image embeddings only if the
    provenance's `normalize` is `before` or `both`. Texts have their own map if the projection has one. As in open_clip,
    the caller chooses whether to scale after the projection: `normalize=True` corresponds to `after` and `both`. All
    other attributes, such as `logit_scale`, are attributes of the model.

    To average text embeddings over templates as the benchmark does, embed with `normalize=False`. The projection is
    linear, so the mean differs from the benchmark's embedding only in its length.

    Args:
        model: an open_clip model, or another model with `encode_image`, `encode_text` and `logit_scale`. It is not
            copied.
        exported: a projection that was exported for embeddings of this model.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from benchmark.backbones.projected_encoder import ProjectedEncoder
        >>> from benchmark.backbones.projection_files import ExportedProjection
        >>> class Toy(torch.nn.Module):
        ...     "Embeddings are the inputs themselves."
        ...     logit_scale = torch.zeros(())
        ...
        ...     def encode_image(self, images): return images
        ...
        ...     def encode_text(self, tokens): return tokens
        >>> facts = {"backbone": "Toy", "fingerprint": "ab" * 32, "normalize": "none"}
        >>> first_two = ExportedProjection(np.eye(3, dtype=np.float32)[:2], facts)
        >>> encoder = ProjectedEncoder(Toy(), first_two)
        >>> encoder.encode_image(torch.tensor([[5.0, 6.0, 7.0]]))
        tensor([[5., 6.]])
        >>> encoder.encode_image(torch.tensor([[3.0, 4.0, 7.0]]), normalize=True)
        tensor([[0.6000, 0.8000]])
    """

    A: torch.Tensor

    def __init__(self, model: torch.nn.Module, exported: ExportedProjection) -> None:
        super().__init__()
        self.model: Any = model
        self.provenance = exported.provenance
        self._unit_before = exported.provenance["normalize"] in ("before", "both")
        self.training = model.training  # train() would also set the mode of every part of the model
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.register_buffer("A", torch.tensor(exported.matrix, device=device))
        if exported.text_matrix is not None:
            self.register_buffer("A_text", torch.tensor(exported.text_matrix, device=device))

    def encode_image(self, images: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Return projected embeddings of images, shape (n, k).

        Args:
            images: preprocessed images as the model takes them, shape (n, 3, height, width).
            normalize: whether projected embeddings are scaled to unit length. Default False.

        Raises:
            ValueError: the model's embeddings do not have width D.
        """
        return self._project(self.model.encode_image(images), self.A, self._unit_before, normalize)

    def encode_text(self, tokens: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Return projected embeddings of texts, shape (n, k).

        Args:
            tokens: tokenized texts as the model takes them, shape (n, context length).
            normalize: whether projected embeddings are scaled to unit length. Default False.

        Raises:
            ValueError: the model's embeddings do not have width D.
        """
        a = self._buffers.get("A_text")
        return self._project(self.model.encode_text(tokens), self.A if a is None else a, True, normalize)

    def get_logits(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits of images over texts, shape (n, m), and of texts over images, shape (m, n), as open_clip does.

        Args:
            image: preprocessed images as the model takes them, shape (n, 3, height, width).
            text: tokenized texts as the model takes them, shape (m, context length).
        """
        z, t = self.encode_image(image, normalize=True), self.encode_text(text, normalize=True)
        logits = self.model.logit_scale.exp() * z @ t.T
        if (bias := getattr(self.model, "logit_bias", None)) is not None:
            logits = logits + bias
        return logits, logits.T

    def forward(self, image: torch.Tensor | None = None, text: torch.Tensor | None = None) -> Any:
        """Return image embeddings, text embeddings and exp(logit_scale), as open_clip does.

        Embeddings have unit length; they are None without input. For a model with `logit_bias`, the bias is a fourth
        value. For a model with `output_dict`, a dictionary is returned instead of a tuple.

        Args:
            image: preprocessed images as the model takes them, shape (n, 3, height, width), or None (default).
            text: tokenized texts as the model takes them, shape (m, context length), or None (default).
        """
        out = {
            "image_features": None if image is None else self.encode_image(image, normalize=True),
            "text_features": None if text is None else self.encode_text(text, normalize=True),
            "logit_scale": self.model.logit_scale.exp(),
        }
        if (bias := getattr(self.model, "logit_bias", None)) is not None:
            out["logit_bias"] = bias
        return out if getattr(self.model, "output_dict", False) else tuple(out.values())

    def _project(self, z: torch.Tensor, a: torch.Tensor, unit_before: bool, unit_after: bool) -> torch.Tensor:
        if z.shape[-1] != a.shape[1]:
            raise ValueError(
                f"The model's embeddings have width {z.shape[-1]}, and the projection, made for "
                f"'{self.provenance['backbone']}', takes {a.shape[1]}."
            )
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 is too coarse for a projection
            z = z.float()
            z = linear(normalize(z, dim=-1) if unit_before else z, a.float())
            return normalize(z, dim=-1) if unit_after else z

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model" or name.startswith("__"):  # before __init__, and for copying and pickling
                raise
            return getattr(super().__getattr__("model"), name)
