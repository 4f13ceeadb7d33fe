"""What compare_optimizers.py walks on, and how it draws what it finds."""
