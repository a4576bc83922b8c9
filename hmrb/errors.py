"""The two ways a command can end badly; a door turns each into one message and an exit code."""


class RequestError(Exception):
    """What was asked for is wrong or not there: exit code 2, nothing was started."""


class RunError(Exception):
    """The run was right to start and failed on its way: exit code 1."""
