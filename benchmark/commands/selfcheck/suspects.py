"""What a self-check tries otherwise: each of what is known to move zero-shot accuracies by points."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmark.backbones.spec import BackboneSpec
from benchmark.method.interventions import Intervention
from benchmark.recipe.recipe import Recipe
from benchmark.recipe.specs import InterventionsSpec

if TYPE_CHECKING:
    from torch import Tensor

_DEFAULT_TEMPLATES = ("a photo of a {}.", "{}")
_NORMALISATIONS = {
    "CLIP's mean and std": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "a mean and std of 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_DECODINGS = (  # key of `images` in a recipe, its value for open_clip's own pixels, what this is in words
    ("jpeg_draft", False, "JPEGs decoded at full scale"),
    ("upright", False, "images as stored, whatever EXIF says"),
    ("resize", "pillow", "the resize of Pillow"),
)


class ChannelsReversed(Intervention):
    """Red and blue in each other's place: what reads images as BGR sees."""

    def apply(self, images: "Tensor", drawn: "Tensor") -> "Tensor":
        """Return the images with their channels in reverse order."""
        del drawn
        return images.flip(1)


@dataclass(frozen=True)
class Suspect:
    """One thing that may be otherwise than in what is published.

    Attributes:
        name: what it is.
        detail: how it is tried, in words that follow "with".
        templates: of the prompts; empty for the recipe's.
        rename: from a class's name to what prompts call it; by default itself.
        view: label of the view that takes the original's place; empty for the original.
        changes: parts of the recipe, as its fields; none by default.
    """

    name: str
    detail: str
    templates: tuple[str, ...] = ()
    rename: Callable[[str], str] = str
    view: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


def of_texts(recipe: Recipe, published: Sequence[str]) -> Iterator[Suspect]:
    """Yield what can be otherwise in texts, which takes no embedding of images.

    Args:
        recipe: as it is.
        published: templates that sources state; what is no template with one place for the class is passed over.
    """
    stated = [template for template in dict.fromkeys(published) if template.count("{}") == 1]
    own = recipe.prompts.templates_for(recipe.datasets[0].name)
    for template in dict.fromkeys([*stated, *_DEFAULT_TEMPLATES]):
        if (template,) != own:
            yield Suspect("template", f"the template '{template}'", templates=(template,))
    yield Suspect("class-name case", "class names in lower case", rename=str.lower)
    yield Suspect("class-name case", "class names with capitals", rename=lambda name: name.replace("_", " ").title())


def of_pixels(recipe: Recipe) -> list[Suspect]:
    """Return what can be otherwise in images and encoder, what the recipe itself changes first.

    Each embeds the images anew.
    """
    (backbone,) = recipe.backbones
    own = list(_changed(backbone))
    kind = ChannelsReversed()
    swapped = {"interventions": InterventionsSpec(kinds=(kind,), apply_at=recipe.interventions.apply_at)}
    usual: list[Suspect] = []
    if backbone.family == "open_clip" and backbone.quick_gelu is None:
        usual += [_of_backbone(backbone, "QuickGELU", f"QuickGELU {w}", quick_gelu=w == "on") for w in ("on", "off")]
    usual.append(Suspect("channel order", "red and blue exchanged (BGR)", view=kind.label, changes=swapped))
    for words, (mean, std) in _NORMALISATIONS.items():
        usual.append(_of_backbone(backbone, "mean and std", words, mean=mean, std=std))
    for key, value, words in _DECODINGS:
        if getattr(recipe.images, key) != value:
            other = {"images": recipe.images.model_copy(update={key: value})}
            usual.append(Suspect("decoding", words, changes=other))
    return own + usual


def _changed(backbone: BackboneSpec) -> Iterator[Suspect]:
    """Yield each thing in which a recipe differs from what comes with the weights, undone."""
    if backbone.mean or backbone.std:
        yield _of_backbone(backbone, "mean and std", "the mean and std of the weights", mean=None, std=None)
    if backbone.quick_gelu is not None:
        yield _of_backbone(backbone, "QuickGELU", "QuickGELU as the weights want it", quick_gelu=None)
    if backbone.precision != "float32":
        yield _of_backbone(backbone, "precision", "float32", precision="float32")


def _of_backbone(backbone: BackboneSpec, name: str, detail: str, **changes: Any) -> Suspect:
    return Suspect(name, detail, changes={"backbones": (backbone.model_copy(update=changes),)})
