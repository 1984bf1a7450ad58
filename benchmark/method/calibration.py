"""Temperature scaling: how sure logits are, made to fit labels. What predictors and their evaluation share."""

import numpy as np
from scipy.optimize import minimize_scalar

from benchmark.method.arrays import Array, Labels

TEMPERATURES = (1e-3, 1e3)  # between which one is looked for


def fitted_temperature(logits: Array, labels: Labels) -> float:
    """Return the temperature at which the labels are likeliest (temperature scaling, Guo et al., 2017, section 4.2).

    Images whose class has a logit of minus infinity cannot be made likelier and are left out; 1.0 where none is left.

    Args:
        logits: shape (m, classes).
        labels: shape (m,).
    """
    possible = np.isfinite(logits[np.arange(len(labels)), labels])
    logits, labels = logits[possible], labels[possible]
    if not len(labels):
        return 1.0

    own = np.arange(len(labels)), labels

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled -= scaled.max(axis=1, keepdims=True)
        likelihoods = scaled[own]
        return -float((likelihoods - np.log(np.exp(scaled, out=scaled).sum(axis=1))).mean())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))
