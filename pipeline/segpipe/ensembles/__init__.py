"""Ensembles: members in, one prediction out; fitted on one split, reported on another.

pixelwise  averages and votes
weights    weights by likelihood, by score, greedily
stacking   a learner over the members' log-probabilities; learners: which there are
samples    the pixels that a fit sees
diversity  how members differ
methods    what params.yaml names
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segpipe.ensembles.pixelwise import average, majority, plurality
    from segpipe.ensembles.stacking import Stacker
    from segpipe.ensembles.weights import fit_weights, greedy

METHODS = "segpipe.ensembles.methods"  # by name: what only reads params.yaml depends on none of their code

__all__ = ["METHODS", "Stacker", "average", "fit_weights", "greedy", "majority", "plurality"]
_HOMES = {
    "average": "pixelwise",
    "majority": "pixelwise",
    "plurality": "pixelwise",
    "Stacker": "stacking",
    "fit_weights": "weights",
    "greedy": "weights",
}


def __getattr__(name: str) -> Any:
    """Load on first use: params.yaml is checked without OpenCV."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'segpipe.ensembles' has no attribute '{name}'")
    return getattr(import_module(f"segpipe.ensembles.{_HOMES[name]}"), name)
