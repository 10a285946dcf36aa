"""Keep credentials out of messages, logs and records: every text that may hold one goes through
`mask`.

Hidden are the user in a URI, and the values of parameters and settings with telling names. The
values of environment variables with telling names and of configured storage options are hidden
wherever they appear.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

# A secret may hold slashes and at signs: after `name:`, which is no port, all up to the last at
# sign is taken for it.
_USER = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<user>[^/@\s:]+:(?!\d+(?:/|\s|$))[^\s'\"]*|[^/@\s]+)@"
)
# ?token=..., &api_key=...; NAME_OF_A_VARIABLE=...; AccountKey=... of a connection string
_PARAMETER = re.compile(
    r"(?P<key>[?&;#][\w.-]*(?i:token|key|secret|passw|pwd|sig|credential|auth)[\w.-]*="
    r"|\b[A-Z][A-Z0-9_]*(?:SECRET|TOKEN|PASSW|ACCESS_KEY|ACCOUNT_KEY|CREDENTIAL|_SAS)[A-Z0-9_]*="
    r"|\b(?i:AccountKey|SharedAccessKey|SharedAccessSignature)=)[^&;\s'\"]+",
)
_SETTING_NAMES = (
    "[a-z_]*secret[a-z_]*|[a-z_]*passw(?:or)?d|[a-z_]+_key|[a-z_]+_token|[a-z_]*credentials?"
    "|authorization|connection_string"
)
_SHORT_NAMES = "key|token|sas|auth|pwd"  # in messages such words mean other things, too
# secret: ..., 'password': "...", and the short names in quotes
_SETTING = re.compile(
    rf"(?P<key>(?<![\w/.])(?:['\"]?(?:{_SETTING_NAMES})['\"]?"
    rf"|(?P<quote>['\"])(?:{_SHORT_NAMES})(?P=quote)):\s*['\"]?)"
    r"(?:Bearer |Basic )?[^\s,}'\"]{6,}",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|ACCOUNT_KEY|CONNECTION_STRING|CREDENTIAL|_SAS"
)
_SHORTEST_SECRET = 8  # characters; a shorter value would hide parts of ordinary words

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")

_hidden: set[str] = set()


def hide(values: Mapping[str, object]) -> None:
    """Remember the secrets among settings, nested ones too, for `mask` to hide them anywhere."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            hide(value)
        elif re.fullmatch(f"{_SETTING_NAMES}|{_SHORT_NAMES}", name.lower()):
            for secret in value if isinstance(value, list | tuple) else [value]:
                # The scheme of a URI is none, and without it `mask` would know no URI any more.
                if isinstance(secret, str) and len(_SCHEME.sub("", secret)) >= _SHORTEST_SECRET:
                    _hidden.add(secret)


def mask_values(value: object) -> Any:
    """Copy nested lists and mappings, with every text masked, for a record."""
    if isinstance(value, Mapping):
        return {key: mask_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [mask_values(part) for part in value]
    return mask(value) if isinstance(value, str) else value


def mask(text: str) -> str:
    """Remove the credentials from a text.

    The result is safe to print: undecodable bytes are escaped.
    """
    secrets = set(_hidden)
    for name, value in os.environ.items():
        is_secret = _SECRET_VARIABLE.search(name) and len(value) >= _SHORTEST_SECRET
        # A variable may name the file with the secret.
        if is_secret and not os.path.exists(value):  # noqa: PTH110 - a long value is no valid Path
            secrets.add(value)
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _USER.sub(_mask_user, text)
    text = _PARAMETER.sub(r"\g<key>***", text)
    text = _SETTING.sub(r"\g<key>***", text)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def describe(error: BaseException, known_path: str = "") -> str:
    """Give the reason in one line, without credentials: an error's text, or its type without one.

    An error of the system names its files, except `known_path`, which the message around it has
    already.
    """
    text = str(error)
    paths: list[str] = []
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
        names = [error.filename, error.filename2]
        # A file descriptor stands for the path where an open file was meant.
        paths = [os.fsdecode(name) for name in names if name and not isinstance(name, int)]
    first_line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    reason = mask(first_line) or type(error).__name__
    if isinstance(error, FileNotFoundError) and not paths and _is_working_directory_gone():
        return f"{reason}: the working directory of this process was removed; cd to one that exists"
    unknown = [mask(path) for path in paths if path != known_path]
    return f"{reason}: {' -> '.join(unknown)}" if unknown else reason


def _is_working_directory_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109  # Path.cwd() calls it
    except FileNotFoundError:
        return True
    return False


def _mask_user(match: re.Match[str]) -> str:
    is_azure = match["scheme"].lower().startswith(("abfs", "wasb", "az"))
    if is_azure and ":" not in match["user"]:  # abfss://container@account: no user
        return match[0]
    return f"{match['scheme']}://***@"
