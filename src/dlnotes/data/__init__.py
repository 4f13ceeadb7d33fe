"""Text files in, batches of token ids out."""
