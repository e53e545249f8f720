"""The label that is no class: in a target it counts nowhere, in a prediction it rejects the pixel."""

VOID = 255
