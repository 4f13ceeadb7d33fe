"""Colours of the figures, readable on white and on black alike."""

BLUE, ORANGE, GREY = "#4c8fd6", "#e0762f", "#8a8a8a"
