"""The two errors of a command; the command line turns each into one message and an exit code."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Need:
    """A file that is wanted and not here: what it is, the command that makes it, the page that it is obtained from.

    `command` may also say where the file is put. `page` is "" where none is needed. `is_automatic`: hmrb makes or
    downloads it on first use.
    """

    what: str
    command: str
    page: str = ""
    is_automatic: bool = False


class RequestError(Exception):
    """The request is invalid or needs something missing: exit code 2, nothing was started.

    `needs` are the missing files, which the command line prints as a table in place of the message. `subject` is who
    needs them, `about` the argument of `hmrb doctor` that says more, `problems` are what else is wrong.
    """

    is_shared = False
    """Whether every rank raises it, so that rank 0 alone has to print it."""

    def __init__(
        self,
        message: str = "",
        needs: Iterable[Need] = (),
        *,
        subject: str = "this command",
        about: str = "",
        problems: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.needs, self.subject, self.about, self.problems = tuple(needs), subject, about, tuple(problems)


class RunError(Exception):
    """A valid run failed after it started: exit code 1."""

    is_shared = False


def own_words(error: Exception) -> str:
    """The message of an error; of one from a loading process, which comes with a traceback, the message alone."""
    text = str(error)
    return text.rpartition(f"{type(error).__name__}: ")[2].strip() if text.startswith("Caught ") else text


def joined(errors: Iterable[RequestError], subject: str = "this command", about: str = "") -> RequestError:
    """One error of several: their different messages, each on a line, and all that they need."""
    different = {str(error): error for error in errors}
    needs = dict.fromkeys(need for error in different.values() for need in error.needs)
    problems = [message for message, error in different.items() if not error.needs]
    return RequestError("\n".join(different), needs, subject=subject, about=about, problems=problems)
