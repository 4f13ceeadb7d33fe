"""Trained classifiers for programs without dlnotes: ONNX, torch.export and fastText's format."""
