"""The kinds of costs that backbones have: see `benchmark.store.costs`."""

from benchmark.backbones.spec import BackboneSpec


def embedding_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost of a backbone's embeddings, whatever engine makes them; the work is views."""
    return ("embedding", *_named(backbone))


def start_kind(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return the kind of cost of what is done once for each data set with a backbone: workers, weights, warm-up."""
    return ("start of embedding", *_named(backbone))


def _named(backbone: BackboneSpec) -> tuple[str, ...]:
    """Return what speed depends on, then the weights, on which it does not."""
    label = backbone.model_copy(update={"engine": "auto"}).label
    return (backbone.name, f"{backbone.image_size or 'its own size'}", backbone.precision, label)
