"""The stages, in the order of the pipeline: each file is a command, a DVC stage and a folder."""

NAMES = ("download", "prepare", "stats", "train", "predict", "crf", "ensemble", "evaluate", "report")
SPLITS = ("val", "test")  # what is predicted and scored
