"""Comparing models on one's own documents: trainings, tests of their differences, and reports."""
