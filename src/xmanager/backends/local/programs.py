"""Tells in one sentence why a program can't be run, before it is tried: a shell's own words come too late."""

from __future__ import annotations

import os
import shutil
from functools import lru_cache
from pathlib import Path

_BINARY_FORMATS = Path('/proc/sys/fs/binfmt_misc')
_I386, _X86_64 = b'\x03\x00', b'\x3e\x00'


class CannotStartError(Exception):
    """A task can't be started; the message is a sentence for the user."""


@lru_cache(maxsize=256)
def _check_once(file: str, name: str, inode: int, changed_at: int) -> None:
    """Each file is looked into once for as long as it stays the same. (An exception is not remembered.)"""
    _check_file(file, name)


def find_program(name: str, cwd: str, path: str | None) -> str:
    """What to run for `argv[0]`: unchanged if it has a slash, else looked for on `path`.

    Raises CannotStartError if there is no such program, or it can't be executed.
    """
    if not name:
        raise CannotStartError('the command is empty: its first word must name a program.')
    if '/' not in name:
        found = shutil.which(name, path=path)
        if found is None:
            raise CannotStartError(f'program {name!r} is not on PATH ({path or "empty"}).')
        name = os.path.join(cwd, found)
    file = os.path.join(cwd, name)
    try:
        facts = os.stat(file)
    except OSError:
        _check_file(file, name)
    else:
        _check_once(file, name, facts.st_ino, facts.st_ctime_ns)
    return name


def _check_file(file: str, name: str) -> None:
    if not os.path.exists(file):
        raise CannotStartError(f'program {name!r} does not exist.')
    if not os.path.isfile(file):
        raise CannotStartError(f'{name!r} is a directory or a device, not a program.')
    if not os.access(file, os.X_OK):
        raise CannotStartError(f'program {name!r} may not be executed. Run: chmod +x {file}')
    try:
        with open(file, 'rb') as stream:
            head = stream.read(256)
    except OSError:  # may be executed but not read: only the kernel can tell
        return
    if head.startswith(b'#!'):
        _check_interpreter(head, name)
    elif head.startswith(b'\x7fELF'):
        _check_machine(head, name)
    elif b'\0' not in head:
        raise CannotStartError(
            f"program {name!r} is neither a binary nor a script with a first line like '#!/bin/sh'. Add that line."
        )


def _check_interpreter(head: bytes, name: str) -> None:
    line, newline, _ = head[2:].partition(b'\n')
    words = line.strip(b' \t').split(None if b'\r' not in line else b' ')
    if not newline or not words:
        return
    interpreter = os.fsdecode(words[0])
    if os.path.isabs(interpreter) and not os.path.exists(interpreter):
        raise CannotStartError(
            f'program {name!r} asks for the interpreter {interpreter!r}, which does not exist.'
        )


def _check_machine(head: bytes, name: str) -> None:
    """Refuses an ELF program for another kind of processor, unless something is registered to emulate it."""
    wanted, own = head[18:20], _own_machine()
    if wanted == own or not own or (wanted, own) == (_I386, _X86_64):
        return
    try:
        emulated = set(os.listdir(_BINARY_FORMATS)) - {'register', 'status'}
    except OSError:
        emulated = set()
    if not emulated:
        raise CannotStartError(
            f'program {name!r} is built for another kind of processor than {os.uname().machine}.'
        )


def _own_machine() -> bytes:
    try:
        with open('/proc/self/exe', 'rb') as stream:
            return stream.read(20)[18:20]
    except OSError:
        return b''
