"""Predictions that other tools wrote for the images of a dataset."""
