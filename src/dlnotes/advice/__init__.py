"""Advice for one's own documents: a small race of models, and what it recommends."""
