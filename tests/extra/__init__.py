"""Packages that stand for what a user adds."""
