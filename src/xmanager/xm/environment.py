"""Environment variables of jobs: names, values, and secrets that are given by name only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

# POSIX.1-2017, section 8.1, "Environment Variable Definition", lower case allowed.
_NAME = re.compile(r'[a-zA-Z_][a-zA-Z0-9_]*')


def check_variable_name(name: object) -> str:
    """Returns `name`, or raises ValueError when no shell could set a variable of that name."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ValueError(
        f'Environment variable {name!r}: a name must match {_NAME.pattern}, '
        'that is letters, digits and underscores, and not start with a digit.'
    )


@attrs.frozen(slots=False)
class Secret:
    """The name of a secret, used as the value of an environment variable of a job.

    Its value is looked up where the job starts and is never recorded:
    `env_vars={'WANDB_API_KEY': xm.Secret('WANDB_API_KEY')}`. Anything that would turn it into text
    raises RuntimeError.
    """

    name: str = attrs.field()

    @name.validator
    def _check_name(self, _: object, name: object) -> None:
        check_variable_name(name)

    def __repr__(self) -> str:
        return f'Secret({self.name!r})'

    def __str__(self) -> NoReturn:
        raise RuntimeError(
            f'{self!r} has no text: a secret can only be the value of an environment variable. '
            f'Give it as env_vars={{{self.name!r}: xm.Secret({self.name!r})}} and read it in the job.'
        )


def checked_env_vars(env_vars: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copies `env_vars` as given, once the names are found to be legal; ValueError if not."""
    copied = dict(env_vars or {})
    for name in copied:
        check_variable_name(name)
    return copied


def env_strings(env_vars: Mapping[str, Any]) -> dict[str, str | Secret]:
    """What a job's environment receives: every value through `str()`, secrets as they are.

    Raises ValueError for a bad name, RuntimeError for an `xm.ShellSafeArg`, which no shell expands
    here.
    """
    return {
        name: value if isinstance(value, Secret) else str(value)
        for name, value in checked_env_vars(env_vars).items()
    }
