"""Commands that are not stages: one file each."""
