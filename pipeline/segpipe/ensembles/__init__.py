"""Ensembles: members in, one prediction out; fitted on one split, reported on another.

pixelwise  averages and votes
weights    weights by likelihood, by score, greedily
stacking   a learner over the members' log-probabilities; learners: which there are
samples    the pixels that a fit sees
diversity  how members differ
methods    what params.yaml names
"""

from segpipe.ensembles.pixelwise import average, majority, plurality
from segpipe.ensembles.stacking import Stacker
from segpipe.ensembles.weights import fit_weights, greedy

__all__ = ["Stacker", "average", "fit_weights", "greedy", "majority", "plurality"]
