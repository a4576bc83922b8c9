"""The two errors of a command; the command line turns each into one message and an exit code."""


class RequestError(Exception):
    """The request is invalid or needs something missing: exit code 2, nothing was started."""


class RunError(Exception):
    """A valid run failed after it started: exit code 1."""
