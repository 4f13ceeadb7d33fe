"""Moved into :mod:`dlnotes.nn.attention`."""

from dlnotes.deprecation import keep_old_names

keep_old_names(__name__)
