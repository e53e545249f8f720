"""segpipe: which loss, which post-processing, which ensemble is best on your images and masks?"""

__version__ = "0.1.0"
