"""What is hidden wherever a task, a unit or an experiment is shown: what is named like a secret, or stands in a URL.

Pure, and quick to import: launchers, commands and web pages share it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

MASK: Final = '***'

_SECRET_NAME = re.compile(r'(^|_)(token|passwd)$|(_|api|access)key$|password|passphrase|secret')
_ASSIGNMENT = re.compile(r'(?<![\w.-])(-{0,2}[A-Za-z_][\w.-]*)=("[^"]*"|\'[^\']*\'|\S*)')
_FLAG = re.compile(r'-{1,2}[A-Za-z_][\w.-]*')
# Of web addresses a user without a password too: that may be a token.
_LOGIN = re.compile(
    r'\b(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^\s/?#:@\'"]*:[^\s/?#\'"]*|(?:(?<=http://)|(?<=https://))[^\s/?#:@\'"]+)@',
    re.I,
)
_BEARER = re.compile(r'\b(bearer)(\s+)[^\s\'"]+', re.I)
_LONG_FLAG = re.compile(r'--[A-Za-z_]')


def looks_secret(name: str) -> bool:
    """Whether a variable, flag or argument of this name probably holds a secret.

    `*_TOKEN`, `*_KEY`, `*PASSWORD*`, `*SECRET*` and their kin, in any case, with dashes or dots for underscores.
    `max_tokens` and a bare `key` are no secrets: sweeps are full of them.
    """
    normal = re.sub(r'[-.]', '_', name.lstrip('-')).lower()
    return _SECRET_NAME.search(normal) is not None


def placeholder(name: str) -> str:
    """How a secret that was given by name is shown."""
    return f'<secret {name}>'


def mask_env(env: Mapping[str, str], secrets: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment as it may be shown; `secrets` (variable to the secret's name) follow what is given by value."""
    shown = {
        name: MASK if looks_secret(name) and value else mask_text(value)
        for name, value in env.items()
    }
    return shown | {variable: placeholder(name) for variable, name in (secrets or {}).items()}


def mask_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line as it may be shown: `--api_key=***`, `--api_key ***`, `API_KEY=***`."""
    return tuple(_mask_items(argv))


def mask_text(text: str) -> str:
    """A sentence or an argument as it may be shown: `API_KEY=***`, `https://***@host`, `Bearer ***`."""
    return _mask_logins(_ASSIGNMENT.sub(_mask_assignment, text))


def mask_values(value: Any) -> Any:
    """Arguments of a unit as they may be shown: nested mappings by the names of their keys, lists as command lines."""
    if isinstance(value, Mapping):
        return {key: _mask_value(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return _mask_items(value)
    return _mask_argument(value) if isinstance(value, str) else value


def _mask_items(items: Sequence[Any]) -> list[Any]:
    before = [None, *items[:-1]]
    return [
        MASK if _asks_for_secret(previous) and _is_value(item) else mask_values(item)
        for previous, item in zip(before, items, strict=False)
    ]


def _asks_for_secret(item: object) -> bool:
    return isinstance(item, str) and _FLAG.fullmatch(item) is not None and looks_secret(item)


def _is_value(item: object) -> bool:
    """Whether it may be the value of the flag before it: that flag may be a switch, followed by another flag."""
    if isinstance(item, str):
        return _LONG_FLAG.match(item) is None
    return item is not None and not isinstance(item, bool)


def _mask_value(name: str, value: Any) -> Any:
    if not looks_secret(name) or value is None or isinstance(value, bool) or value == '':
        return mask_values(value)
    return mask_values(value) if isinstance(value, Mapping) else MASK


def _mask_argument(argument: str) -> str:
    # A whole argument may have spaces in its value; within a shell's command line the value ends at a space.
    name, equals, value = argument.partition('=')
    if equals and value and re.fullmatch(r'-{0,2}[A-Za-z_][\w.-]*', name) and looks_secret(name):
        return f'{name}={MASK}'
    return mask_text(argument)


def _mask_logins(text: str) -> str:
    if '@' in text:
        text = _LOGIN.sub(rf'\g<scheme>://{MASK}@', text)
    return _BEARER.sub(rf'\1\2{MASK}', text)


def _mask_assignment(match: re.Match[str]) -> str:
    name, value = match.groups()
    return f'{name}={MASK}' if value and looks_secret(name) else match.group()
