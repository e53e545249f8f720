"""The fully connected CRF, without a compiler.

Kraehenbuehl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", with the permutohedral lattice of Adams, Baek and Davis 2010.
"""

from segpipe.crf.dense import DenseCRF, dense_crf
from segpipe.crf.layer import DenseCRFLayer

__all__ = ["DenseCRF", "DenseCRFLayer", "dense_crf"]
