"""Models of open_clip: built-in names with a pretrained tag or a checkpoint file, hub names, and local folders.

The demo's MiniLiT is a local folder. Names and tags are looked up in open_clip's files, without its slow import.
"""

import ast
import contextlib
import importlib
import importlib.util
import json
import logging
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.backbones import hub
from benchmark.backbones.models import EncoderModel
from benchmark.backbones.spec import BUILT, OPEN_CLIP_SCHEMAS, BackboneSpec, TrainingSpec
from benchmark.common.errors import IcmBenchError, nearest, some

if TYPE_CHECKING:
    import torch

    from benchmark.backbones.models import TextSide


class OpenClipModel(EncoderModel):
    """A model created by `open_clip.create_model`.

    Args:
        spec: the model and its weights.

    Raises:
        IcmBenchError: the name or the pretrained tag is unknown, the folder is missing, the checkpoint does not fit or
            would have to be unpickled, or there is no network for a download.
    """

    module: Any  # open_clip's models have no common type

    def __init__(self, spec: BackboneSpec) -> None:
        self.check_available(spec)
        self._spec, self._name = spec, _open_clip_name(spec)
        self.module, notes = _load(spec, self._name)
        self.notes = tuple(notes)
        if spec.is_built and not spec.random_weights:
            about, training = _training_of(spec)
            self.notes += tuple(f"{spec.label}: {note}" for note in about.notes(training, self.module.state_dict()))
        self.logit_scale = float(self.module.logit_scale.detach().exp())

    def encode_images(self, images: "torch.Tensor") -> Any:
        """Return raw embeddings, shape (batch, D)."""
        return self.module.encode_image(images)

    def encode_texts(self, texts: Sequence[str]) -> Any:
        """Return raw embeddings of texts, shape (len(texts), D)."""
        return self.module.encode_text(self._tokens(self.tokenizer, texts))

    def text_side(self) -> "TextSide | None":
        """Return the tokenizer, the token embedding module, and the encoder from tokens to embeddings."""
        tokenizer, model = self.tokenizer, self.module
        text = getattr(model, "text", model)
        table = getattr(text, "token_embedding", None)
        if table is None and hasattr(text, "transformer") and hasattr(text.transformer, "get_input_embeddings"):
            table = text.transformer.get_input_embeddings()
        return None if table is None else (lambda texts: self._tokens(tokenizer, texts), table, model.encode_text)

    def _tokens(self, tokenizer: Callable[[list[str]], "torch.Tensor"], texts: Sequence[str]) -> "torch.Tensor":
        return tokenizer(list(texts)).to(next(self.module.parameters()).device)

    def architecture(self) -> object:
        """Return open_clip's model configuration with the actual activation, without paths of folders."""
        config = _model_cfg(self._spec, self._name)
        text = config.get("text_cfg", {})
        for key in ("hf_model_name", "hf_tokenizer_name"):
            if Path(text.get(key, "")).is_absolute():
                text[key] = "in the model's folder"
        return config

    def preprocess(self) -> dict[str, Any]:
        """Return open_clip's preprocessing as plain data that JSON does not change."""
        import open_clip

        plain: dict[str, Any] = json.loads(json.dumps(open_clip.get_model_preprocess_cfg(self.module)))
        size = plain["size"]
        plain["size"] = [size, size] if isinstance(size, int) else list(size)
        return plain

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer from open_clip."""
        import open_clip

        text = open_clip.get_model_config(self._name).get("text_cfg", {})
        # A configuration may name remote code, which is not run; only tokenizers of transformers have this option.
        options = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
        return open_clip.get_tokenizer(self._name, **options)

    @property
    def folder(self) -> Path | None:
        """The model's folder in open_clip's local-dir layout, or None."""
        return Path(self._name.removeprefix("local-dir:")) if self._name.startswith("local-dir:") else None

    def config(self) -> dict[str, Any]:
        """Return the content of an `open_clip_config.json` that describes this model as it was loaded."""
        model_cfg = _model_cfg(self._spec, self._name)
        if self._spec.image_size:
            model_cfg["vision_cfg"]["image_size"] = self._spec.image_size
        return {"model_cfg": model_cfg, "preprocess_cfg": self.preprocess()}

    @classmethod
    def check_name(cls, spec: BackboneSpec) -> None:
        """Raise IcmBenchError if the pretrained tag is unknown, or if the recipe does not say `quick_gelu` but must.

        Random weights have no tag; for them, the files of the text tower must be cached or on a reachable hub.
        """
        config = _listed(spec)
        if config and spec.random_weights:
            hub.check_text_files(spec.name, config.get("text_cfg", {}))
        elif config:
            if not Path(spec.pretrained or "").is_file() and spec.pretrained not in _tags(spec.name):
                _open_clip_name(spec)  # raises an error with the reason
            _check_activation(spec, bool(config.get("quick_gelu")))

    @classmethod
    def check_available(cls, spec: BackboneSpec) -> None:
        """Raise IcmBenchError if files are not cached and the hub is unreachable. Open_clip is not imported."""
        config = _listed(spec)
        if config:
            hub.check_text_files(spec.name, config.get("text_cfg", {}))
        if config and not (spec.random_weights or Path(spec.pretrained or "").is_file()):
            place, _ = _tags(spec.name).get(spec.pretrained or "", (None, False))
        else:
            place = spec.name.removeprefix("hf-hub:") if spec.name.startswith("hf-hub:") and not spec.folder else None
        # `place` is None for local weights and for unknown names (reported on load), and "" for weights elsewhere.
        if place is not None and not hub.go_offline_unless_reachable() and place and not hub.has_cached_weights(place):
            raise IcmBenchError(_not_downloaded(spec, spec.pretrained or spec.name))

    @classmethod
    def width(cls, spec: BackboneSpec) -> int:
        """Return the embedding width D from the model's configuration, without weights."""
        if spec.is_built:
            return (spec.training or TrainingSpec()).width
        if config := _listed(spec):
            return int(config["embed_dim"])
        import open_clip

        open_clip_name = _open_clip_name(spec)
        try:
            return int(open_clip.get_model_config(open_clip_name)["embed_dim"])
        except Exception as error:  # an unreachable hub or a damaged configuration can raise any error
            raise IcmBenchError(
                f"The configuration of the backbone '{spec.name}' cannot be read ({type(error).__name__}: {error}); "
                f"check the name or the folder, and the network if it lies on a hub."
            ) from error


def place_of_built(spec: BackboneSpec, build: bool = False) -> Path:
    """Return the cache folder of a backbone in `BUILT`; with `build`, build it if needed."""
    about, training = _training_of(spec)
    return importlib.import_module(BUILT[spec.name][1]).build(training) if build else about.place(training)


def _training_of(spec: BackboneSpec) -> tuple[Any, Any]:
    """Return the module about a backbone in `BUILT`, and its training (None: the default)."""
    about: Any = importlib.import_module(BUILT[spec.name][0])
    return about, about.Training(**spec.training.model_dump()) if spec.training else None


def _listed(spec: BackboneSpec) -> dict[str, Any] | None:
    """Return the configuration of a model in open_clip's list, without importing open_clip; None for other models."""
    if spec.folder or spec.is_built:
        return None
    with contextlib.suppress(ValueError):
        config = json.loads(_package_file("model_configs", f"{spec.name.replace('/', '-')}.json"))
        return config if "embed_dim" in config else None
    return None


def _tags(name: str) -> dict[str, tuple[str, bool]]:
    """Return, for each pretrained tag of a model, its hub repository and whether it was trained with QuickGELU.

    The model must be in open_clip's list. The repository is empty for weights that are not on the hub. The tags are
    parsed from open_clip's source: `_PRETRAINED = {"NAME": _TAGS}`, `_TAGS = dict(TAG=_pcfg(...))`. The result is empty
    if the source has another form; callers then import open_clip.
    """
    values: dict[str, ast.expr] = {}
    with contextlib.suppress(SyntaxError):
        body = ast.parse(_package_file("pretrained.py")).body
        values = {ast.unparse(node.targets[0]): node.value for node in body if isinstance(node, ast.Assign)}
    table, found = values.get("_PRETRAINED"), dict[str, tuple[str, bool]]()
    for key, value in zip(table.keys, table.values, strict=True) if isinstance(table, ast.Dict) else ():
        tags = values.get(ast.unparse(value), value)
        if isinstance(key, ast.Constant) and key.value == name and isinstance(tags, ast.Call):
            for tag in tags.keywords:  # TAG=_pcfg(..., hf_hub="OWNER/NAME/FILE", quick_gelu=True)
                words = tag.value.keywords if isinstance(tag.value, ast.Call) else []
                given = {word.arg: word.value.value for word in words if isinstance(word.value, ast.Constant)}
                found[tag.arg or ""] = str(given.get("hf_hub", "")).rpartition("/")[0], bool(given.get("quick_gelu"))
    return found


def _check_activation(spec: BackboneSpec, model_has_it: bool) -> None:
    """Raise IcmBenchError if the recipe must say whether a checkpoint file was trained with QuickGELU."""
    tags = _tags(spec.name)
    having = [tag for tag, (_, quick_gelu) in tags.items() if quick_gelu]
    if having and not model_has_it and spec.quick_gelu is None and spec.pretrained not in tags:
        others = [tag for tag in tags if tag not in having]
        without = f"; others, such as {others[0]}, have not" if others else ""
        raise IcmBenchError(
            f"backbones: the file {spec.pretrained} does not say whether '{spec.name}' has QuickGELU, as the weights "
            f"{', '.join(having[:3])} have{without}. Say quick_gelu: true or false; the wrong one costs several points."
        )


def _package_file(*names: str) -> str:
    """Return the text of a file of open_clip's package, without importing it; empty if missing."""
    package = importlib.util.find_spec("open_clip")
    for folder in (package.submodule_search_locations or ()) if package else ():
        with contextlib.suppress(OSError, ValueError):
            return Path(folder, *names).read_text(encoding="utf-8")
    return ""


def _model_cfg(spec: BackboneSpec, open_clip_name: str) -> dict[str, Any]:
    """Return open_clip's model configuration with the actual activation."""
    import open_clip

    config: dict[str, Any] = open_clip.get_model_config(open_clip_name)
    config["quick_gelu"] = _quick_gelu(spec, open_clip_name, []) or config.get("quick_gelu", False)
    return config


def _open_clip_name(spec: BackboneSpec) -> str:
    """Return open_clip's name of the model, after checking that it exists. The demo's encoder is built if needed."""
    import open_clip

    if spec.folder:
        folder = Path(spec.folder).expanduser().absolute()
        if not (folder / "open_clip_config.json").is_file():
            raise IcmBenchError(
                f"backbones: the folder {folder} of '{spec.name}' holds no open_clip_config.json; "
                f"give a folder in open_clip's local-dir layout."
            )
        return f"local-dir:{folder}"
    if spec.name in BUILT:
        if spec.pretrained and not spec.random_weights:
            raise IcmBenchError(f"backbones: '{spec.name}' has its own weights; leave 'pretrained' out.")
        return f"local-dir:{place_of_built(spec, build=True)}"
    if spec.name.startswith(OPEN_CLIP_SCHEMAS):
        return spec.name
    known = open_clip.list_models()
    if spec.name not in known:
        raise IcmBenchError(f"Unknown backbone '{spec.name}': {nearest(spec.name, [*known, *BUILT])}")
    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    if spec.pretrained is None:
        raise IcmBenchError(
            f"backbones: '{spec.name}' needs 'pretrained': one of {some(tags)}, a checkpoint file, or 'random'."
        )
    if spec.random_weights or spec.pretrained in tags or Path(spec.pretrained).is_file():
        return spec.name
    raise IcmBenchError(
        f"Unknown pretrained tag '{spec.pretrained}' of '{spec.name}' (and no such file): "
        f"{nearest(spec.pretrained, tags)}"
    )


def _load(spec: BackboneSpec, open_clip_name: str) -> tuple[Any, list[str]]:
    """Return open_clip's model and notes for the user."""
    import open_clip
    import torch

    notes: list[str] = []
    pretrained = None if spec.random_weights or open_clip_name.startswith(OPEN_CLIP_SCHEMAS) else spec.pretrained
    if pretrained and Path(pretrained).is_file() and not (spec.mean and spec.std):
        notes.append(f"{spec.label}: a checkpoint file has no mean and std; OpenAI's are used.")
    if spec.random_weights:
        notes.append(f"{spec.label}: the weights are random, so no accuracy of this run means anything.")
        torch.manual_seed(spec.seed)
    logging.disable(logging.CRITICAL)  # errors are reported below
    try:
        model = open_clip.create_model(
            open_clip_name,
            pretrained=pretrained,
            force_image_size=spec.image_size,
            force_quick_gelu=_quick_gelu(spec, open_clip_name, notes),
            force_preprocess_cfg={k: v for k, v in (("mean", spec.mean), ("std", spec.std)) if v},
            load_weights=not spec.random_weights,
            require_pretrained=not spec.random_weights,
            pretrained_text=False,
            weights_only=True,
        )
        return model, notes
    except IcmBenchError:
        raise
    except Exception as error:  # a damaged checkpoint can raise any error
        raise IcmBenchError(_load_failure(spec, open_clip_name, pretrained, error)) from error
    finally:
        logging.disable(logging.NOTSET)


def _load_failure(spec: BackboneSpec, open_clip_name: str, pretrained: str | None, error: Exception) -> str:
    """Return the error message, with a remedy, for an exception of open_clip."""
    text = str(error)
    where = pretrained or open_clip_name.removeprefix("local-dir:")
    # Position embeddings of another width fail in an assertion, before open_clip compares weights.
    if "Error(s) in loading state_dict" in text or "pos_embed" in text:
        detail = text.splitlines()[1].strip() if len(text.splitlines()) > 1 else text
        return (
            f"The checkpoint {where} does not fit the model '{spec.name}': {detail[:200]}; "
            f"name the model that it was trained for."
        )
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        return (
            f"The checkpoint {where} is damaged, or holds more than tensors and would have to be unpickled, which is "
            f"refused; save its state_dict as safetensors."
        )
    if "download" in text.lower() or "HF Hub" in text or "huggingface" in text.lower():
        return _not_downloaded(spec, where)
    first = f"{type(error).__name__}: {text.strip().splitlines()[0][:200]}" if text.strip() else type(error).__name__
    return (
        f"The backbone '{spec.name}' cannot be loaded from {where} ({first}); "
        f"give a safetensors file or a state_dict that open_clip reads."
    )


def _not_downloaded(spec: BackboneSpec, what: str) -> str:
    return (
        f"The weights '{what}' of '{spec.name}' cannot be downloaded (no network, or no such place); connect, or give "
        f"a local checkpoint as 'pretrained' or 'folder'; {hub.WITHOUT_NETWORK}."
    )


def _quick_gelu(spec: BackboneSpec, open_clip_name: str, notes: list[str]) -> bool:
    """Return whether the activation is QuickGELU: as the recipe says, or else as in the training of the pretrained tag.

    A wrong activation costs several points of accuracy, but open_clip only warns of it. So this function adds to
    `notes`, or raises IcmBenchError.
    """
    import open_clip

    model_has_it = bool(open_clip.get_model_config(open_clip_name).get("quick_gelu", False))
    if open_clip_name.startswith(OPEN_CLIP_SCHEMAS) or spec.random_weights:
        if model_has_it and spec.quick_gelu is False:
            raise IcmBenchError(f"backbones: the configuration of '{spec.name}' has QuickGELU; change it there.")
        return model_has_it if spec.quick_gelu is None else spec.quick_gelu
    tag = open_clip.pretrained.get_pretrained_cfg(open_clip_name, spec.pretrained)
    _check_activation(spec, model_has_it)
    of_file = model_has_it if spec.quick_gelu is None else spec.quick_gelu
    trained_with_it = bool(tag.get("quick_gelu", False)) if tag else of_file
    wanted = trained_with_it if spec.quick_gelu is None else spec.quick_gelu
    if model_has_it and not wanted:
        raise IcmBenchError(
            f"backbones: '{spec.name}' has the QuickGELU activation, but the weights '{spec.pretrained}' were "
            f"trained without it; use '{spec.name.removesuffix('-quickgelu')}'."
        )
    if wanted != trained_with_it:
        notes.append(
            f"{spec.label}: QuickGELU is {'on' if wanted else 'off'} by the recipe, but the weights were trained "
            f"with it {'on' if trained_with_it else 'off'}: accuracy will suffer."
        )
    elif wanted != model_has_it:
        notes.append(f"{spec.label}: trained with QuickGELU, which the model's name does not say; it is used.")
    return wanted
