"""What Ray says of an error on a worker, in one line for a person."""

import re

from bertsum.masking import mask

_ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TRACEBACK = ("Traceback (most recent call last)", "ray::", '  File "')


def last_words(error: BaseException | str) -> str:
    """Give the cause: the end of a remote traceback, or the first two sentences where there is none.

    Without escape codes and credentials. Indented lines are source code, or the numbers of Ray's actors.
    """
    text = _ESCAPE_CODES.sub("", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line[0].isspace()]
    if not lines:
        return type(error).__name__
    return mask(lines[-1] if any(mark in text for mark in _TRACEBACK) else " ".join(lines[:2]))


def explain(error: BaseException, what_ended: str, resumes: str) -> str:
    """A message about an error of Ray's own; `resumes` is left out where the next try would end the same way."""
    if getattr(error, "actor_init_failed", False):  # its process came up, and what it should run did not
        return f"{what_ended}: a worker could not start: {last_words(error)}"
    return f"{what_ended}: {last_words(error)}; {resumes}"
