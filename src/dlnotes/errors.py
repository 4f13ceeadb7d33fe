"""What a user is told: that something cannot be used, or what was made of it."""


class UserError(ValueError):
    """A mistake in an input, a file or a setting, told in one line.

    The message says what is wrong, where (file and line) and what to do. Scripts print it
    without a traceback and exit with code 2.
    """


class Notice(UserWarning):
    """What was found in a user's data, or done with them, that may not be what was meant.

    A warning, told in one line; the commands print it as such.
    """
