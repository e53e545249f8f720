"""Parameters: what params.yaml may hold, where outputs lie, dvc.yaml, and what the code of a stage means."""
