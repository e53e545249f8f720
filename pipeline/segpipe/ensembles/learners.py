"""Classifiers that stacking fits with scikit-learn and stores as plain arrays: no pickle is ever loaded.

All but the forest end in scores W z + b of features z, so prediction is one product of matrices.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from segpipe.core import registry
from segpipe.core.opencv import cv2
from segpipe.core.registry import register
from segpipe.metrics import temperature

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
_SMALLEST = 1e-6  # of a feature's deviation: a constant feature is left as it is


def fit(
    learner: str, features: Floats, target: NDArray[np.int64], weight: NDArray[Any], num_classes: int, seed: int
) -> Arrays:
    """The arrays of a learner fitted on features (P, F) with target (P,) and pixel weights (P,).

    A class without a pixel gets probability 0 everywhere. Deterministic: one thread, whatever the machine has.
    """

    if not len(target):
        raise ValueError("there is no pixel to fit on: all labels are void")
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    deviation = np.where(deviation > _SMALLEST, deviation, 1.0)
    known = np.unique(target)
    own = weight / weight.mean()
    standard = ((features - mean) / deviation).astype(np.float32)
    entry = registry.find(__name__, "learner", learner)
    if len(known) == 1:
        arrays: Arrays = {"weights": np.zeros((1, features.shape[1])), "bias": np.zeros(1)}
    else:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of convergence: the budget of iterations is meant
            arrays = entry.load()(standard, np.searchsorted(known, target), own, seed)
        if entry.attributes["margins"]:
            arrays = _calibrated(arrays, standard, np.searchsorted(known, target), own)
    arrays = {name: np.asarray(a, np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
    return {
        **arrays,
        "mean": mean.astype(np.float32),
        "deviation": deviation.astype(np.float32),
        "known": known,
        "num_classes": np.array(num_classes),
    }


def predict(arrays: Arrays, features: Floats) -> Floats:
    """Probabilities (C, P) of features (F, P): features first, as the members' maps lie in memory."""
    known, classes = arrays["known"], int(arrays["num_classes"])
    if "feature" in arrays:
        found = _grown(arrays, ((features - arrays["mean"][:, None]) / arrays["deviation"][:, None]).astype(np.float32))
    else:
        found = _scores(arrays, features)
        found -= found.max(0)
        cv2.exp(found, dst=found)
        found /= found.sum(0)
    if len(known) == classes:
        return found
    whole = np.zeros((classes, features.shape[1]), np.float32)
    whole[known] = found
    return whole


def multiply_adds(arrays: Arrays) -> int:
    """Of one pixel; comparisons of a forest count as one each."""
    if "feature" in arrays:
        return int(arrays["depth"]) * len(arrays["roots"])
    return sum(int(a.size) for name, a in arrays.items() if name in ("weights", "omega", "hidden"))


@register("logistic", source="multinomial logistic regression, L2", margins=False)
def _logistic(features: Floats, target: NDArray[np.int64], weight: NDArray[Any], seed: int) -> Arrays:
    """Linear, by likelihood; the choice where members' probabilities can be trusted."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=100, tol=1e-4, random_state=seed).fit(features, target, weight)
    return {"weights": _both(fitted.coef_), "bias": _both(fitted.intercept_)}


@register("linear_svm", source="Cortes and Vapnik 1995; one class against the rest", margins=True)
def _linear_svm(features: Floats, target: NDArray[np.int64], weight: NDArray[Any], seed: int) -> Arrays:
    """Linear, by margins; probabilities by a temperature on them."""
    return _machine(features, target, weight, seed)


@register("rbf_svm", source="Rahimi and Recht 2007, random Fourier features", margins=True)
def _rbf_svm(features: Floats, target: NDArray[np.int64], weight: NDArray[Any], seed: int) -> Arrays:
    """A Gaussian kernel approximated by 200 random cosines, then the linear machine."""
    from sklearn.kernel_approximation import RBFSampler

    # A wide kernel: of standardised features squared distances are about 2 F.
    waves = RBFSampler(gamma=0.1 / features.shape[1], n_components=200, random_state=seed).fit(features)
    z = waves.transform(features).astype(np.float32)
    return {**_machine(z, target, weight, seed), "omega": waves.random_weights_, "phase": waves.random_offset_}


@register("forest", source="Breiman 2001", margins=False)
def _forest(features: Floats, target: NDArray[np.int64], weight: NDArray[Any], seed: int) -> Arrays:
    """50 trees of depth 12: interactions, at the price of speed and of confidence."""
    from sklearn.ensemble import RandomForestClassifier

    fitted = RandomForestClassifier(50, max_depth=12, min_samples_leaf=5, random_state=seed)
    trees = [tree.tree_ for tree in fitted.fit(features, target, weight).estimators_]
    offsets = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]

    def joined(name: str, shift: bool = False) -> NDArray[Any]:
        parts = [getattr(tree, name) + (offset if shift else 0) for tree, offset in zip(trees, offsets, strict=True)]
        return np.concatenate(parts)

    leaf = joined("children_left") < 0
    itself = np.arange(len(leaf))
    shares = np.concatenate([tree.value[:, 0] for tree in trees])
    return {
        "feature": np.where(leaf, 0, joined("feature")),
        "threshold": joined("threshold"),
        "left": np.where(leaf, itself, joined("children_left", shift=True)),  # a leaf leads to itself
        "right": np.where(leaf, itself, joined("children_right", shift=True)),
        "roots": offsets,
        "depth": np.array(max(tree.max_depth for tree in trees)),
        "shares": shares / shares.sum(1, keepdims=True),
    }


@register("mlp", source="one hidden layer of 64, Adam", margins=False)
def _mlp(features: Floats, target: NDArray[np.int64], weight: NDArray[Any], seed: int) -> Arrays:
    """A small network."""
    from sklearn.neural_network import MLPClassifier

    batch = min(256, len(target))
    epochs = max(20, 1000 * batch // len(target))  # at least about a thousand steps
    fitted = MLPClassifier((64,), batch_size=batch, max_iter=epochs, random_state=seed)
    fitted.fit(features, target, weight)
    first, second = fitted.coefs_
    return {
        "hidden": first,
        "offset": fitted.intercepts_[0],
        "weights": _both(second.T),
        "bias": _both(fitted.intercepts_[1]),
    }


def _machine(features: Floats, target: NDArray[np.int64], weight: NDArray[Any], seed: int) -> Arrays:
    from sklearn.svm import LinearSVC

    fitted = LinearSVC(dual=False, max_iter=100, tol=1e-3, random_state=seed).fit(features, target, weight)
    return {"weights": _both(fitted.coef_), "bias": _both(fitted.intercept_)}


def _both(scores: NDArray[Any]) -> NDArray[Any]:
    """Of two classes scikit-learn keeps the second's scores alone: those of the first are 0."""
    return scores if len(scores) > 1 else np.concatenate([np.zeros_like(scores), scores])


def _calibrated(arrays: Arrays, features: Floats, target: NDArray[np.int64], weight: NDArray[Any]) -> Arrays:
    """Margins divided by the temperature that makes their softmax likely; at a bound, as they are."""
    plain = {**arrays, "mean": np.zeros(features.shape[1]), "deviation": np.ones(features.shape[1])}
    scores = _scores(plain, features.T).T.astype(np.float64)
    found = temperature.fit(scores, target, weight).value or 1.0
    return {**arrays, "weights": arrays["weights"] / found, "bias": arrays["bias"] / found}


def _scores(arrays: Arrays, features: Floats) -> Floats:
    """(K, P) of features (F, P)."""
    scale = (1 / arrays["deviation"]).astype(np.float32)
    first: Callable[[NDArray[Any]], NDArray[Any]] = lambda w: w * scale  # noqa: E731
    shift = -(arrays["mean"] * scale)
    z = features
    if "omega" in arrays:
        z = _affine(first(arrays["omega"].T), z, arrays["phase"] + shift @ arrays["omega"])
        np.cos(z, out=z)
        z *= np.float32(np.sqrt(2 / len(z)))
        return _affine(arrays["weights"], z, arrays["bias"])
    if "hidden" in arrays:
        z = _affine(first(arrays["hidden"].T), z, arrays["offset"] + shift @ arrays["hidden"])
        np.maximum(z, 0, out=z)
        return _affine(arrays["weights"], z, arrays["bias"])
    return _affine(first(arrays["weights"]), z, arrays["bias"] + arrays["weights"] @ shift)


def _affine(weights: NDArray[Any], z: NDArray[Any], bias: NDArray[Any]) -> Floats:
    found: Floats = np.asarray(weights, np.float32) @ z
    found += np.asarray(bias, np.float32)[:, None]
    return found


def _grown(arrays: Arrays, features: Floats) -> Floats:
    """(K, P) mean of the trees' shares: all trees take one step down at a time."""
    pixels = np.arange(features.shape[1])
    total = np.zeros((arrays["shares"].shape[1], len(pixels)), np.float32)
    for root in arrays["roots"]:
        node = np.full(len(pixels), root)
        for _ in range(int(arrays["depth"])):
            goes_left = features[arrays["feature"][node], pixels] <= arrays["threshold"][node]
            node = np.where(goes_left, arrays["left"][node], arrays["right"][node])
        total += arrays["shares"][node].T
    return total / np.float32(len(arrays["roots"]))
