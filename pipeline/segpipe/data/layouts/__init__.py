"""The layouts of datasets: how the samples of a folder are found, and how they become files where they are not."""

from segpipe.data.layouts.found import Found, cut, finished

__all__ = ["Found", "cut", "finished"]
