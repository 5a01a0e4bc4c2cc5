"""What a task becomes on a cluster that sees none of this machine's files, and what must be there before. Pure."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import attrs

from xmanager.backend import Task

_USUAL_PYTHON: Final = 'python3'
_INTERPRETER: Final = re.compile(r'(?:python|pypy)[0-9.]*')
# What stands there is the system's: built for this one, and there on every other.
_OF_THE_SYSTEM: Final = ('/bin/', '/sbin/', '/usr/bin/', '/usr/sbin/')
_KINDS: Final = r'(?:snapshots/trees|cache/environments)/[^/]+|experiments/(?P<experiment>[0-9]+)'


@attrs.frozen
class Code:
    """A snapshot: code, or a program. `store` is the folder of snapshots here."""

    digest: str
    store: str


@attrs.frozen
class Environment:
    """A Python environment, made anew there from the lock file that is kept in its folder here."""

    folder: str
    lock: str
    key: str
    python: str


@attrs.frozen
class Image:
    """An OCI layout; `name` is what its folder is called there."""

    layout: str
    name: str


@attrs.frozen
class Interpreter:
    """A folder in which the cluster's Python has the names that scripts call it by."""

    folder: str
    program: str


Need = Code | Environment | Image | Interpreter


class StaysHereError(Exception):
    """What a task needs can't be taken to the cluster; the message is a sentence for the user."""


@attrs.frozen(slots=False)
class Translation:
    """From this machine, with our files below `homes`, to a cluster where they are below `root`.

    `there` is HOME of the cluster, `home_id` names this home among others that use the cluster, and `python` is the
    cluster's interpreter for code without an environment of its own, '' for the usual one.
    """

    homes: tuple[str, ...]
    root: str
    there: str
    home_id: str
    python: str = ''

    @cached_property
    def _ours(self) -> re.Pattern[str]:
        # At the beginning of a word, or of what follows `--flag=` or stands in a list.
        homes = '|'.join(map(re.escape, self.homes))
        return re.compile(rf'(?:^|(?<=[=:,]))(?:{homes})/(?P<below>{_KINDS})(?=/|$|[:,])')

    def place(self, text: str) -> str:
        """The text with all paths in it that lie below our folders as they are there."""
        return self._ours.sub(self._placed, text)

    def _placed(self, match: re.Match[str]) -> str:
        if match['experiment']:
            return f'{self.root}/experiments/{self.home_id}-{match["experiment"]}'
        folder, _, name = match['below'].rpartition('/')
        if folder.startswith('cache'):
            name = self._environment_key(name)
        return f'{self.root}/{folder}/{name}'

    def adapt(self, task: Task) -> Task:
        """The task as it runs there."""
        executable = task.executable
        if task.image:
            return attrs.evolve(task, executable=self._image(executable))
        prepended = self._prepended(executable)
        argv = tuple(map(self.place, task.argv))
        if task.argv:
            argv = (self._program(task.argv[0], executable), *argv[1:])
        return attrs.evolve(
            task,
            argv=argv,
            cwd=self._cwd(task),
            env={name: self.place(value) for name, value in task.env.items()},
            executable={**self._facts(executable), 'prepended': prepended},
        )

    def needs(self, task: Task) -> tuple[Need, ...]:
        """What must be there before it runs. Raises StaysHereError."""
        executable = task.executable
        kind = executable.get('kind')
        if task.image:
            layout = str(executable.get('layout', ''))
            return (Image(layout, os.path.basename(layout)),) if layout else ()
        if kind == 'python':
            code = Code(executable['snapshot'], _store_of(executable['tree']))
            return (code, self._python_of(executable))
        if kind == 'binary' and task.argv and self._travels(task.argv[0], executable):
            if not executable.get('kept'):
                raise StaysHereError(
                    f'{executable["path"]} can not be copied to the cluster: no copy of it was kept when it was '
                    f'packaged, for it is large ({executable["bytes"]:,} bytes) or may not be read. '
                    'Set --xm_binary_max_kept, or make it readable, and launch again.'
                )
            return (Code(executable['kept'], _store_of(executable['copy'])),)
        return ()

    # Programs.

    def _program(self, word: str, executable: Mapping[str, Any]) -> str:
        kind = executable.get('kind')
        if kind == 'python' and not executable.get('environment'):
            # The interpreter that launches is one of this machine.
            here = executable.get('prepended', {}).get('PATH', '')
            return self._python if here and os.path.dirname(word) == here else self.place(word)
        if kind == 'binary' and word in (executable.get('path'), executable.get('copy')):
            if self._travels(word, executable):
                return self.place(str(executable.get('copy', '')) or word)
            return self._python if _is_interpreter(word) else word
        return self.place(word)

    def _travels(self, word: str, executable: Mapping[str, Any]) -> bool:
        """Whether a program is taken along: not one that stands for the system's, or for its own surroundings."""
        if word not in (executable.get('path'), executable.get('copy')):
            return False
        path = str(executable.get('path', ''))
        return not path.startswith(_OF_THE_SYSTEM) and not (
            _is_interpreter(path) and not executable.get('kept')
        )

    @property
    def _python(self) -> str:
        return self.python or _USUAL_PYTHON

    def _python_of(self, executable: Mapping[str, Any]) -> Environment | Interpreter:
        made = executable.get('environment')
        if not made:
            return Interpreter(self._interpreter_folder, self._python)
        version = '.'.join(str(made['python']).split('.')[:2])
        key = self._environment_key(str(made['key']))
        lock = str(made.get('requirements', ''))
        return Environment(str(made['folder']), lock, key, self.python or version)

    def _environment_key(self, key: str) -> str:
        if not self.python:
            return key
        return hashlib.sha256(f'{key} {self.python}'.encode()).hexdigest()[:32]

    @property
    def _interpreter_folder(self) -> str:
        return f'{self.root}/cache/pythons/{hashlib.sha256(self._python.encode()).hexdigest()[:16]}'

    # Places.

    def _cwd(self, task: Task) -> str:
        """The folder there. One that nobody has named, the launcher's, is not there: then it is the user's own."""
        placed = self.place(task.cwd)
        if placed == task.cwd and task.options.get('cwd') == '':
            return self.there
        return placed

    def _prepended(self, executable: Mapping[str, Any]) -> dict[str, str]:
        places = dict(executable.get('prepended', {}))
        if executable.get('kind') == 'python' and not executable.get('environment'):
            places['PATH'] = self._interpreter_folder
        return {name: self.place(place) for name, place in places.items()}

    def _facts(self, executable: Mapping[str, Any]) -> dict[str, Any]:
        """As recorded, with places of the cluster."""
        facts = dict(executable)
        if facts.get('tree'):
            facts['tree'] = self.place(str(facts['tree']))
        if facts.get('kind') == 'binary':
            # What runs there is the copy itself, or a program of the cluster's own.
            facts |= {'path': self._program(str(facts['path']), executable), 'copy': ''}
        if environment := facts.get('environment'):
            facts['environment'] = {**environment, 'folder': self.place(str(environment['folder']))}
        return facts

    def _image(self, executable: Mapping[str, Any]) -> dict[str, Any]:
        facts = dict(executable)
        if facts.get('layout'):
            facts['layout'] = f'{self.root}/images/{os.path.basename(str(facts["layout"]))}'
        return facts


def home_of(executable: Mapping[str, Any]) -> str:
    """The folder of this machine below which packaging has put what an executable needs; '' if there is nothing."""
    made = executable.get('environment') or {}
    for path in (executable.get('tree'), executable.get('copy'), made.get('folder')):
        home, found, _ = re.split(
            r'(/snapshots/trees/|/cache/environments/|\Z)', str(path or ''), maxsplit=1
        )
        if found:
            return home
    return ''


def _store_of(path: str) -> str:
    return f'{path.partition("/snapshots/trees/")[0]}/snapshots'


def _is_interpreter(path: str) -> bool:
    return _INTERPRETER.fullmatch(os.path.basename(path)) is not None
