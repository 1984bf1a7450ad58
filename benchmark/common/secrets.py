"""Redaction of keys, tokens and passwords in any text before it is printed or written.

Secrets are searched in three places: before the host of a URI, after names such as `secret_key=`, and as values of
environment variables. A secret may contain any character, such as `/`, `@` and `+`, so everything up to the last `@` of
a URI is redacted. A URI with a secret is never opened (see `storage.places`), but error messages may quote one.
"""

import os
import re
from typing import Any
from urllib.parse import quote

HIDDEN = "***"
MIN_LENGTH = 8  # minimum characters of a secret that is searched by its value: shorter ones may be ordinary words
_NAMES = r"secret(?:[_-]?access)?[_-]?key|access[_-]?key(?:[_-]?id)?|(?:session|security)[_-]?token|api[_-]?key"
_WORDS = r"password|passwd|pwd|secret|(?:auth[_-]?)?token|credential|signature|sig"
_OF_URI = re.compile(r"""([A-Za-z][A-Za-z0-9+.-]{0,30}://)(?!/)([^\s"<>`]{0,2048})@""")
_VALUE = r"""(?:(?P<quote>["'])(?:\\.|(?!(?P=quote))[^\n\\])*\\?(?P=quote)|[^\s&"'`,)}\]\[{][^\s&"'`,)}\]]*)"""
_VALUES = tuple(
    re.compile(f"(?P<name>{name}){_VALUE}", re.IGNORECASE)
    for name in (
        rf"""(?:{_NAMES})["']?\s*[:=]\s*""",
        rf"""(?<![A-Za-z])(?:{_WORDS})=""",
        rf"""["'](?:{_WORDS})["']\s*[:=]\s*""",
        r"""authorization["']?\s*[:=]\s*(?:bearer\s+|basic\s+)?""",
    )
)
# Names of environment variables that hold secrets, or paths to secrets.
_VARIABLE = re.compile(
    r"(?:^|_)(?:SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|KEY|ACCESS_KEY_ID)$|SECRET_KEY|SECRET_ACCESS_KEY"
)
_known: set[str] = set()  # secrets given to `register_secrets`


def public(uri: str) -> str:
    """Return `uri` for printing: without its query, which may hold secrets, and with all other secrets redacted."""
    return re.split(r"[?#]", hidden(uri))[0].rstrip("/") if "://" in uri else uri


def hidden(text: str) -> str:
    """Return a text with every secret replaced by `***`."""
    if not text.strip():
        return text
    for pattern in _VALUES:
        text = pattern.sub(lambda match: f"{match['name']}{match['quote'] or ''}{HIDDEN}{match['quote'] or ''}", text)
    text = _OF_URI.sub(lambda match: f"{match[1]}{HIDDEN}@" if _is_user(match[2]) else match[0], text)
    for secret in sorted(_known | _of_environment(), key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def hidden_in(content: Any) -> Any:
    """Return plain data with secrets redacted in all texts, keys of mappings included."""
    if isinstance(content, str):
        return hidden(content)
    if isinstance(content, dict):
        return {hidden_in(key): HIDDEN if _is_secret(key, one) else hidden_in(one) for key, one in content.items()}
    if isinstance(content, list | tuple):
        return [hidden_in(value) for value in content]
    return content


def _is_secret(key: Any, value: Any) -> bool:
    """Return whether a value is a secret that can be recognized only by its key, such as `password`."""
    return isinstance(value, str) and bool(value) and not has_secret(value) and has_secret(f"{key}={value}")


def has_secret(text: str) -> bool:
    """Return whether a text holds a secret."""
    return hidden(text) != text


def register_secrets(*secrets: str) -> None:
    """Add secrets from outside environment variables. `hidden` redacts them, also in URL-encoded form."""
    _known.update(form for one in secrets if len(one) >= MIN_LENGTH for form in (one, quote(one, safe="")))


def _is_user(before: str) -> bool:
    """Return whether the text before the last `@` of a URI is a user with a password, not a part of the path."""
    return ":" in before or "@" in before.partition("/")[0] or "/" not in before


def _of_environment() -> set[str]:
    """Return the values of all secret environment variables, each as it is and in URL-encoded form."""
    values = {value for name, value in os.environ.items() if _VARIABLE.search(name.upper())}
    long = {value for value in values if len(value) >= MIN_LENGTH and not value.startswith("/")}
    return long | {quote(value, safe="") for value in long}
