"""segpipe: which loss, which post-processing, which ensemble is best on your images and masks?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segpipe.notebook import compare, compare_predictions, infer, read_results, recommend, train

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "compare_predictions", "infer", "read_results", "recommend", "train"]


def __getattr__(name: str) -> Any:
    """A function of `segpipe.notebook`, which loads torch when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'segpipe' has no attribute '{name}'")
    from segpipe import notebook

    return getattr(notebook, name)
