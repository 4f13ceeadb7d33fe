"""Deep-learning notes as running code, proved against PyTorch."""

__version__ = "0.1.0"
