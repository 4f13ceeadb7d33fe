"""One loop, one evaluation and one run folder for every model."""
