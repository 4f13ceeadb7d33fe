"""Chapters 1 to 3 of the notes: the perceptron, gradient descent and back-propagation."""
