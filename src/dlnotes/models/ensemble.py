"""Moved to :mod:`dlnotes.models.averaging`."""

from dlnotes.deprecation import keep_old_names

keep_old_names(__name__)
