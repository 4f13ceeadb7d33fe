"""What the pages of the book are made of: figures, rows of the records, directives, notebooks."""
