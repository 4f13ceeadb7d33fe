"""``python -m dlnotes`` is ``dlnotes``."""

from dlnotes.commands import main

if __name__ == "__main__":
    main()
