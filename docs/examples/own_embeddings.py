"""Project embeddings of your own: `python docs/examples/own_embeddings.py`

Made-up embeddings of three classes: a class has a direction of its own, and a style moves every image along 16 others.
The intervention draws the style anew. A good projection keeps images of a class together and classes apart.
"""

import numpy as np
from numpy.typing import NDArray

from benchmark import InvariantProjection

IMAGES, DIM, STYLES = 600, 64, 16
rng = np.random.default_rng(0)
label = rng.integers(3, size=IMAGES)


def embed(style: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return embeddings, shape (IMAGES, DIM): the class in three coordinates, the style in 16, noise in all."""
    z = 0.1 * rng.standard_normal((IMAGES, DIM))
    z[np.arange(IMAGES), label] += 1.0
    z[:, -STYLES:] += style
    return z


def spread(z: NDArray[np.float64]) -> str:
    """Return the spread of images around the mean of their class, and that of the class means, in words."""
    means = np.stack([z[label == c].mean(axis=0) for c in range(3)])
    within = ((z - means[label]) ** 2).sum(axis=1).mean()
    between = ((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()
    return f"within {within:.2f}, between {between:.2f}, ratio {between / within:.2f}"


Z, Z_do = (embed(rng.standard_normal((IMAGES, STYLES))) for _ in range(2))
print(f"as it is:            {spread(Z)}")
for name, lambda_ in (("PCA (lambda 0)", 0.0), ("CLIP-ICM (lambda 1)", 1.0)):
    projection = InvariantProjection(lambda_=lambda_, rank=3).fit(Z, Z_do)
    print(f"{name:20} {spread(projection.transform(Z))}")
