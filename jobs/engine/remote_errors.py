"""What Ray says of an error on a worker, in one line for a person."""

import re

from ray.exceptions import RayActorError

from bertsum.masking import mask

_ESCAPE_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TRACEBACK = ("Traceback (most recent call last)", "ray::", '  File "')


def last_words(error: BaseException | str) -> str:
    """Return the cause, without escape codes and credentials.

    It is the end of a remote traceback, or the first two sentences where there is none.
    """
    text = _ESCAPE_CODES.sub("", str(error))
    lines = []
    for line in text.splitlines():
        # indented lines are source code, or the numbers of Ray's actors
        if line.strip() and not line[0].isspace():
            lines.append(line.strip())
    if not lines:
        return type(error).__name__
    # the last line of a traceback names the error; without one, what happened comes first
    has_traceback = any(mark in text for mark in _TRACEBACK)
    return mask(lines[-1] if has_traceback else " ".join(lines[:2]))


def explain(error: BaseException, what_ended: str, resumes: str) -> str:
    """Return a message about an error of Ray's own.

    - `what_ended`: the beginning of the message.
    - `resumes`: its end; left out where the next try would end the same way.
    """
    # the worker's process has started, and what it should run has not
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return f"{what_ended}: a worker could not start: {last_words(error)}"
    return f"{what_ended}: {last_words(error)}; {resumes}"
