"""Where the ledger of this host is, and whether its folder can be trusted."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs

from xmanager.errors import LedgerError

SETTING = 'XM_LOCAL_LEDGER'
HOLDERS = 'holders'
TURN = 'turn'


@attrs.frozen
class Place:
    """A folder that may be written. In a `shared` one other users of the machine keep account too."""

    folder: Path
    shared: bool

    @property
    def holders(self) -> Path:
        """The file on whose bytes living owners and jobs hold locks."""
        return self.folder / HOLDERS

    @property
    def turn(self) -> Path:
        """The file that is locked by whoever reads and changes the ledger."""
        return self.folder / TURN


def locate(environ: Mapping[str, str]) -> Path:
    """The folder that the setting names, else one of this user, on a local disk and the same whatever the home."""
    named = environ.get(SETTING)
    return Path(named).expanduser().absolute() if named else own_folder()


def own_folder() -> Path:
    """Where the ledger of a user is who has chosen no other."""
    return Path('/var/tmp') / f'xmanager-{os.getuid()}'


def prepare(folder: Path) -> Place:
    """Makes the folder (if no administrator has) and its lock files. Raises LedgerError with one sentence.

    Others may write to a folder that somebody chose, if they can't remove what is ours (sticky bit); to one's own
    nobody may.
    """
    named = folder != own_folder()
    try:
        folder.mkdir(mode=0o700, parents=named, exist_ok=True)
        place = _trusted(folder, named)
        for file in (place.holders, place.turn):
            _make(file, 0o644 if place.shared else 0o600)
        return place
    except OSError as error:
        raise LedgerError(
            f'the ledger of this host, {folder}, cannot be used: {error.strerror} ({error.filename}). '
            f'Mend it, or set --xm_local_ledger to a folder of yours on a local disk.'
        ) from error


def _trusted(folder: Path, named: bool) -> Place:
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        raise LedgerError(f'the ledger of this host, {folder}, is no folder. Move it away.')
    own = facts.st_uid == os.getuid()
    shared = bool(facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    if not named and not own:
        raise LedgerError(
            f'{folder} belongs to another user. Remove it, or set --xm_local_ledger to a folder of yours.'
        )
    if not named and shared:
        raise LedgerError(f'others can write to {folder}. Run: chmod 700 {folder}')
    if shared and not facts.st_mode & stat.S_ISVTX:
        raise LedgerError(
            f"in {folder} users could remove each other's entries. As its owner run: chmod +t {folder}"
        )
    if not own and not shared:
        raise LedgerError(
            f'you can not write to the ledger {folder}. Ask its owner to run: chmod 1777 {folder}'
        )
    return Place(folder, shared)


def _make(file: Path, mode: int) -> None:
    """Makes an empty file. One that is there is let alone: in a sticky folder not even O_CREAT may touch another's."""
    if file.exists():
        return
    try:
        descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, mode)
    except FileExistsError:  # Somebody else was as quick.
        return
    os.fchmod(descriptor, mode)
    os.close(descriptor)
