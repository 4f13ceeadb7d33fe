"""The ordinary way to train a classifier of texts, to be compared with: torch's own parts."""
