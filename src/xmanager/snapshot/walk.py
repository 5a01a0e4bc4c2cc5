"""Looks at a folder: which files belong to its snapshot, and which of them have changed since the last look."""

from __future__ import annotations

import os
import stat
import time
from array import array
from typing import Final

import attrs

from xmanager.snapshot import git, rules
from xmanager.snapshot.index import UNKNOWN, Files, Index, Listing, stamp_of
from xmanager.snapshot.rules import BUILT_IN, GIT_RULES, OUR_RULES, Rules
from xmanager.snapshot.stamps import NEVER, safe_stamp, stamp

_KINDS: Final = {
    stat.S_IFSOCK: 'a socket',
    stat.S_IFIFO: 'a named pipe',
    stat.S_IFBLK: 'a device',
    stat.S_IFCHR: 'a device',
}
Known = dict[str, tuple[int, bytes]]
"""Of files by name: stamp and digest."""


@attrs.define
class Walk:
    """One look at a folder, given what the last one saw.

    `unread` are the files whose content isn't known: their path, and where they stand. `refused` says why of each path
    that can't be kept.
    """

    root: str
    last: Index | None
    index: Index = attrs.field(init=False)
    unread: list[tuple[str, Files, int]] = attrs.field(factory=list)
    refused: dict[str, str] = attrs.field(factory=dict)
    has_changed: bool = False
    _rules: dict[str, Rules] = attrs.field(factory=dict)
    _began: int = attrs.field(factory=time.time_ns)

    def go(self) -> None:
        """Fills `index`, but for the digests of what is unread."""
        above = [stamp_of(file) for file in rules.sources_above(self.root)]
        self.index = Index(above)
        is_new = self.last is None or self.last.above != above
        pending: list[tuple[str, bool, Listing | None]] = [('', is_new, None)]
        while pending:
            at, is_dirty, parent = pending.pop()
            listing, is_dirty = self._visit(at, is_dirty)
            if listing is None:
                self._leave_out(at, parent)
                continue
            self.index.listings[at] = listing
            pending += [(f'{at}{name}/', is_dirty, listing) for name in listing.folders]
        if self.last is None or self.last.listings.keys() != self.index.listings.keys():
            self.has_changed = True
        self._add_what_git_tracks()

    # One folder.

    def _visit(self, at: str, is_dirty: bool) -> tuple[Listing | None, bool]:
        """The folder as it is, and whether its rules have changed; None if it is left out after all."""
        folder = f'{self.root}/{at[:-1]}' if at else self.root
        found = os.lstat(folder)
        last = None if self.last is None else self.last.listings.get(at)
        if last is None or is_dirty or self._rules_changed(folder, last):
            return self._list(at, folder, found, None), True
        if last.stamp != stamp(found):
            if last.rules.keys() != set(_rule_files(folder)):
                return self._list(at, folder, found, None), True
            return self._list(at, folder, found, last), False
        return self._look_again(at, folder, found, last), False

    def _rules_changed(self, folder: str, last: Listing) -> bool:
        return any(stamp_of(f'{folder}/{name}') != was for name, was in last.rules.items())

    def _look_again(
        self, at: str, folder: str, own: os.stat_result, last: Listing
    ) -> Listing | None:
        """A folder whose names are the same: have the contents of its files changed?"""
        lstat, files, numbers = os.lstat, last.files, last.files.numbers
        prefix = f'{folder}/'
        for number, name in enumerate(files.names):
            try:
                found = lstat(prefix + name)
            except FileNotFoundError:
                return self._list(at, folder, own, last)
            # As `stamp`, without the cost of a hundred thousand calls.
            if numbers[2 * number] != hash(
                (
                    found.st_mtime_ns,
                    found.st_ctime_ns,
                    found.st_size,
                    found.st_ino,
                    found.st_mode,
                )
            ):
                if not stat.S_ISREG(found.st_mode):
                    return self._list(at, folder, own, last)
                self.has_changed = True
                files.set(number, NEVER, found.st_size, _is_executable(found), UNKNOWN)
                self.unread.append((at + name, files, number))
        return last

    def _list(
        self, at: str, folder: str, own: os.stat_result, last: Listing | None
    ) -> Listing | None:
        """A folder that is new, or whose names have changed, or (`last` is None) its rules."""
        self.has_changed = True
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self.refused[at or '.'] = f'cannot be read ({error.strerror})'
            entries = []
        names = {entry.name for entry in entries}
        if at and rules.ENVIRONMENT in names and self._is_environment(at):
            return None
        rule_files = {
            name: safe_stamp(os.stat(f'{folder}/{name}'), self._began)
            for name in _rule_files(folder)
        }
        listing = Listing(safe_stamp(own, self._began), rule_files, Files(), {}, [], {})
        before = None if self.last is None else self.last.listings.get(at)
        known = {} if before is None else _by_name(before.files)
        for entry in entries:
            self._consider(entry, at, listing, known, last)
        return listing

    def _consider(
        self, entry: os.DirEntry[str], at: str, listing: Listing, known: Known, last: Listing | None
    ) -> None:
        name = entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        why = self._why_omitted(at, name, is_folder, known, last)
        if why:
            listing.omitted[f'{name}/' if is_folder else name] = why
        elif is_folder:
            listing.folders.append(name)
        elif entry.is_symlink():
            listing.links[name] = self._target(at, entry)
        else:
            self._take_in(entry, at, listing, known)

    def _why_omitted(
        self, at: str, name: str, is_folder: bool, known: Known, last: Listing | None
    ) -> str:
        if last is not None:  # The rules are the same: only a new name needs to be matched.
            why = last.omitted.get(f'{name}/' if is_folder else name)
            if why is not None:
                return why
            if name in (last.folders if is_folder else known) or name in last.links:
                return ''
        return self._rules_of(at).why_omitted(name, at + name, is_folder)

    def _take_in(self, entry: os.DirEntry[str], at: str, listing: Listing, known: Known) -> None:
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # Removed since the folder was listed.
            return
        if not stat.S_ISREG(found.st_mode):
            self.refused[at + entry.name] = _KINDS.get(stat.S_IFMT(found.st_mode), 'no file')
            return
        self._add(listing.files, entry.name, at + entry.name, found, known)

    def _add(self, files: Files, name: str, path: str, found: os.stat_result, known: Known) -> None:
        now = stamp(found)
        before, digest = known.get(name, (NEVER, UNKNOWN))
        if before != now:
            now, digest = NEVER, UNKNOWN
            self.unread.append((path, files, len(files.names)))
            self.has_changed = True
        files.add(name, now, found.st_size, _is_executable(found), digest)

    def _target(self, at: str, entry: os.DirEntry[str]) -> str:
        target = os.readlink(entry.path)
        depth = at.count('/')
        for part in target.split('/'):
            depth += -1 if part == '..' else part not in ('', '.')
            if depth < 0 or target.startswith('/'):
                how = 'an absolute link' if target.startswith('/') else 'a link out of the folder'
                self.refused[at + entry.name] = f'{how}, to {target}'
                break
        return target

    # Rules.

    def _rules_of(self, at: str) -> Rules:
        """The rules of a folder, from those of the one above."""
        if at not in self._rules:
            folder = f'{self.root}/{at}'
            above = rules.rules_above(self.root) if not at else self._rules_of(_above(at))
            self._rules[at] = above.within(folder, at)
        return self._rules[at]

    def _is_environment(self, at: str) -> bool:
        """Whether a folder with a `pyvenv.cfg` is left out: unless a rule takes it back."""
        name = at[:-1].rpartition('/')[2]
        omits, _ = self._rules_of(_above(at)).verdict(name, at[:-1], True)
        return omits is not False

    def _leave_out(self, at: str, parent: Listing | None) -> None:
        assert parent is not None
        name = at[:-1].rpartition('/')[2]
        parent.folders.remove(name)
        parent.omitted[f'{name}/'] = f'{BUILT_IN}: a virtual environment'

    # What git tracks.

    def _add_what_git_tracks(self) -> None:
        """Rules of git's don't concern files that it tracks (gitignore(5))."""
        top = git.repository_of(self.root)
        if top is None:
            return
        last = self.last
        self.index.git = stamp_of(git.index_of(top))
        if last is not None and last.git == self.index.git and not self.has_changed:
            names = last.extra.names
        else:
            omitted = _omitted_by_git(self.index)
            is_same = last is not None and last.git == self.index.git
            if last is not None and is_same and omitted == _omitted_by_git(last):
                names = last.extra.names
            else:
                names = _among(git.ignored_but_tracked(self.root), omitted) if omitted else []
        known = {} if last is None else _by_name(last.extra)
        for path in names:
            self._add_extra(path, known)
        if last is not None and last.extra.names != self.index.extra.names:
            self.has_changed = True

    def _add_extra(self, path: str, known: Known) -> None:
        try:
            found = os.lstat(f'{self.root}/{path}')
        except (FileNotFoundError, NotADirectoryError):
            return  # Deleted, though git still tracks it.
        if stat.S_ISREG(found.st_mode):
            self._add(self.index.extra, path, path, found, known)


def _rule_files(folder: str) -> list[str]:
    return [name for name in (GIT_RULES, OUR_RULES) if os.path.isfile(f'{folder}/{name}')]


def _omitted_by_git(index: Index) -> set[str]:
    return {
        f'{at}{name}'
        for at, listing in index.listings.items()
        for name, why in listing.omitted.items()
        if rules.is_of_git(why)
    }


def _among(paths: list[str], omitted: set[str]) -> list[str]:
    """Those of the paths that are omitted, or in a folder that is."""
    found = []
    for path in paths:
        parts = path.split('/')
        folders = ('/'.join(parts[:n]) + '/' for n in range(1, len(parts)))
        if path in omitted or any(folder in omitted for folder in folders):
            found.append(path)
    return found


def _above(at: str) -> str:
    head, slash, _ = at[:-1].rpartition('/')
    return head + slash


def _is_executable(found: os.stat_result) -> bool:
    return bool(found.st_mode & stat.S_IXUSR)


def _by_name(files: Files) -> Known:
    stamps: array[int] = files.numbers[::2]
    return {name: (stamps[number], files.digest(number)) for number, name in enumerate(files.names)}
