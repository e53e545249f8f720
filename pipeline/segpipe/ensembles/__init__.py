"""Ensembles: members in, one prediction out; the rule for ties and abstentions is declared."""

from segpipe.ensembles.pixelwise import average, majority, plurality

__all__ = ["average", "majority", "plurality"]
