"""What is hidden wherever a task, a unit or an experiment is shown: values whose names look like secrets.

Pure, and quick to import: launchers, commands and web pages share it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

MASK: Final = '***'

_SECRET_NAME = re.compile(r'(^|_)(token|passwd)$|(_|api|access)key$|password|passphrase|secret')
_ASSIGNMENT = re.compile(r'(-{0,2}[A-Za-z_][\w.-]*)=("[^"]*"|\'[^\']*\'|\S*)')
_FLAG = re.compile(r'-{1,2}[A-Za-z_][\w.-]*')


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
    shown = {name: MASK if looks_secret(name) and value else value for name, value in env.items()}
    return shown | {variable: placeholder(name) for variable, name in (secrets or {}).items()}


def mask_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """The command line as it may be shown: `--api_key=***`, `--api_key ***`, `API_KEY=***`."""
    shown: list[str] = []
    for argument in argv:
        previous = argv[len(shown) - 1] if shown else ''
        follows_secret_flag = _FLAG.fullmatch(previous) is not None and looks_secret(previous)
        if follows_secret_flag and not argument.startswith('-'):
            shown.append(MASK)
        else:
            shown.append(_mask_argument(argument))
    return tuple(shown)


def mask_values(value: Any) -> Any:
    """Arguments of a unit as they may be shown: nested mappings by the names of their keys, lists as command lines."""
    if isinstance(value, Mapping):
        return {key: _mask_value(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if all(isinstance(item, str) for item in value):
            return list(mask_argv(value))
        return [mask_values(item) for item in value]
    return _mask_argument(value) if isinstance(value, str) else value


def _mask_value(name: str, value: Any) -> Any:
    if not looks_secret(name) or value is None or isinstance(value, bool) or value == '':
        return mask_values(value)
    return mask_values(value) if isinstance(value, Mapping) else MASK


def _mask_argument(argument: str) -> str:
    # A whole argument may have spaces in its value; within a shell's command line the value ends at a space.
    name, equals, value = argument.partition('=')
    if equals and value and re.fullmatch(r'-{0,2}[A-Za-z_][\w.-]*', name) and looks_secret(name):
        return f'{name}={MASK}'
    return _ASSIGNMENT.sub(_mask_assignment, argument)


def _mask_assignment(match: re.Match[str]) -> str:
    name, value = match.groups()
    return f'{name}={MASK}' if value and looks_secret(name) else match.group()
