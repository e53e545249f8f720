"""Parameters: what may stand in params.yaml, where outputs lie, dvc.yaml, and what the code of a stage means."""
