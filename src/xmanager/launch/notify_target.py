"""Who is told when a unit fails or an experiment ends: what the setting `--xm_notify` may be."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from typing import Final
from urllib.parse import SplitResult, urlsplit

import attrs

from xmanager.errors import UsageError

_URL: Final = re.compile(r'([A-Za-z][A-Za-z0-9+.-]*)://')
_SCHEMES: Final = ('http', 'https')
_EXAMPLE: Final = 'Expected a URL such as https://hooks.example.com/12.'


@attrs.frozen
class Webhook:
    """A URL to which news is posted. Its path and query are secrets: who knows them may write there."""

    url: str = attrs.field(repr=False)

    @property
    def name(self) -> str:
        """What may be shown of it."""
        return public_part(self.url)


@attrs.frozen
class Command:
    """A program that reads news from its standard input, run in `cwd`. Its arguments may be secrets."""

    argv: tuple[str, ...] = attrs.field(repr=False)
    cwd: str

    @property
    def name(self) -> str:
        """What may be shown of it."""
        return f'command {self.argv[0]!r}'


def check(target: str, cwd: str) -> None:
    """Raises UsageError for a target that can't be told anything."""
    parse(target, cwd)


def parse(target: str, cwd: str, given_as: str = '--xm_notify') -> Webhook | Command:
    """The webhook or the command that a text means; relative paths are relative to `cwd`.

    Raises UsageError, with no more of the text in it than may be shown.
    """
    target = target.strip()
    try:
        return _webhook(target) if _URL.match(target) else _command(target, cwd)
    except ValueError as error:
        raise UsageError(f'{given_as}={error}') from None


def public_part(url: str) -> str:
    """Scheme and host of a URL: `https://hooks.example.com`."""
    parts = urlsplit(url)
    return f'{parts.scheme}://{parts.netloc.rpartition("@")[2]}'


def _webhook(url: str) -> Webhook:
    try:
        parts = urlsplit(url)
        _ = parts.port  # ValueError if it is no number.
    except ValueError:
        scheme = url.partition('://')[0]
        raise ValueError(f'{scheme}://…: its host or port makes no sense. {_EXAMPLE}') from None
    if wrong := _wrong_with(parts, url):
        raise ValueError(f'{public_part(url)}/…: {wrong}')
    return Webhook(url)


def _wrong_with(parts: SplitResult, url: str) -> str:
    if parts.scheme not in _SCHEMES:
        return (
            f'{parts.scheme}:// is no way to a webhook. Expected http:// or https://, or a command.'
        )
    if not parts.hostname:
        return f'it names no host. {_EXAMPLE}'
    if '@' in parts.netloc:
        return (
            'a user or password in a URL is not supported. '
            'Use a command that sends it, such as curl --netrc.'
        )
    if not url.isascii() or not url.isprintable() or ' ' in url:
        return 'it has characters that no URL may have. Write them in percent-encoding.'
    return ''


def _command(target: str, cwd: str) -> Command:
    try:
        argv = tuple(shlex.split(target))
    except ValueError as error:
        first = target.split(maxsplit=1)[0]
        raise ValueError(f'{first} …: {error}. Expected a command as a shell splits it.') from None
    if not argv or not argv[0] or '\0' in target:
        raise ValueError('…: expected a command, or the URL of a webhook.')
    if _is_runnable(argv[0], cwd):
        return Command(argv, cwd)
    where = f'in {cwd}' if '/' in argv[0] else 'on PATH'
    raise ValueError(
        f'{argv[0]}: there is no such program {where}. '
        'Expected one that can be run (chmod +x), or the URL of a webhook.'
    )


def _is_runnable(program: str, cwd: str) -> bool:
    return shutil.which(os.path.join(cwd, program) if '/' in program else program) is not None
