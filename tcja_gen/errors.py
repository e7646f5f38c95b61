"""Exceptions whose message is for the user: one line that says what was found, what was expected and what to do.

The command line prints the message of a `UserError` or an OSError and ends with exit code 2, that of a `Diverged` with
exit code 1. Any other exception counts as a fault of this package and is reported as one.
"""


class UserError(ValueError):
    """A user's mistake in a setting, a file or a call. The message is one line."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that does not exist. The message is one line."""


class Diverged(RuntimeError):
    """A training whose losses or gradients are no longer finite. The message is one line."""
