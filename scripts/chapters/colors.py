"""Colours of the figures, readable on white and on black alike."""

BLUE, ORANGE, GREY, RED = "#4c8fd6", "#e0762f", "#8a8a8a", "#d63a3a"
