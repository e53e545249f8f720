"""The stages, in the order of the pipeline: each file is a command, a DVC stage and a folder."""

SPLITS = ("val", "test")  # what is predicted and scored
