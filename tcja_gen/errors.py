"""What is a user's mistake, told from what is a fault of this package.

Whoever raises one of these has a line for the user: what was found, what was wanted, what to do. The command line
prints that line and ends with exit code 2. `Diverged` is a training that failed, OSError the system's answer; any other
exception is a fault of ours, and is reported as one.
"""


class UserError(ValueError):
    """A setting, a file or a call that cannot be worked with. The message is one line."""


class MissingFile(UserError, FileNotFoundError):
    """A file or folder that is not there. The message is one line."""


class Diverged(RuntimeError):
    """A training whose numbers are not finite any more. The message is one line."""
