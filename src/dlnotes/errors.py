"""The one exception that means: what the user gave cannot be used."""


class UserError(ValueError):
    """A mistake in an input, a file or a setting, told in one line.

    The message says what is wrong, where (file and line) and what to do. Scripts print it
    without a traceback and exit with code 2.
    """
