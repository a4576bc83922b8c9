"""The two errors of a command; the command line turns each into one message and an exit code."""


class RequestError(Exception):
    """The request is invalid or needs something missing: exit code 2, nothing was started."""

    is_shared = False
    """Whether every rank raises it, so that rank 0 alone has to print it."""


class RunError(Exception):
    """A valid run failed after it started: exit code 1."""

    is_shared = False
