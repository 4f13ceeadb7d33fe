"""Moved to :mod:`dlnotes.data.digits`."""

from dlnotes.deprecation import keep_old_names

keep_old_names(__name__)
