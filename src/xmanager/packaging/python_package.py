"""Python code that runs without a container, from a kept copy: by the launcher's interpreter or another."""

from __future__ import annotations

import importlib.machinery
import os
import platform
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from xmanager.packaging import entry_point
from xmanager.packaging.git import GitQuestion
from xmanager.packaging.packaged import Packaged
from xmanager.packaging.requirements import LOCKS
from xmanager.packaging.workshop import Workshop
from xmanager.snapshot import Entry, Limits, SnapshotStore
from xmanager.xm.executables import CommandList, ModuleName, PythonPackage
from xmanager.xm.packageables import Packageable

if TYPE_CHECKING:
    from xmanager.packaging.environments import Environment


def package_python(packageable: Packageable, workshop: Workshop) -> Packaged:
    """Keeps the folder as it is now, and makes its environment. Raises PackagingError."""
    spec = packageable.executable_spec
    assert isinstance(spec, PythonPackage)
    workshop = workshop.where_it_runs(packageable)
    if workshop.dry_run:
        tree, python, made = spec.path, *_plan(spec, workshop)
    else:
        with GitQuestion(spec.path) as git:
            tree, python, made = _keep(spec, workshop)
            if known := git.answer():
                made['git'] = known
    facts = {
        'kind': 'python',
        'name': spec.name,
        'path': spec.path,
        'entrypoint': _as_json(spec.entrypoint),
        'python': platform.python_version(),
        # The code is importable wherever the job starts, and `python` in a line of shell is the chosen one.
        'prepended': {'PYTHONPATH': tree, 'PATH': os.path.dirname(python)},
        **made,
    }
    return Packaged(
        name=spec.name,
        command=_command(spec.entrypoint, python),
        cwd=tree,
        facts=facts,
        args=packageable.args,
        env_vars=packageable.env_vars,
    )


def _keep(spec: PythonPackage, workshop: Workshop) -> tuple[str, str, dict[str, Any]]:
    """The folder to run in, the interpreter, and what is to be recorded of both."""
    store = SnapshotStore(workshop.snapshots)
    snapshot = store.take(spec.path, limits=Limits.of(workshop.environ))
    if spec.environment is None:
        _check(spec, snapshot.entries, _launcher_brings)
        tree = str(store.tree(snapshot))
        return tree, sys.executable, {'snapshot': snapshot.digest, 'tree': tree}
    from xmanager.packaging.environments import make_environment

    lock, asked = spec.environment, _asked(spec)

    def make() -> Environment:
        return make_environment(lock, workshop, spec.name, asked)

    _check(spec, snapshot.entries, lambda module: make().brings(module))
    environment, tree = make(), str(store.tree(snapshot))
    facts = {'snapshot': snapshot.digest, 'tree': tree, 'environment': environment.facts()}
    return tree, str(environment.python), facts


def _plan(spec: PythonPackage, workshop: Workshop) -> tuple[str, dict[str, Any]]:
    """The interpreter, and the plan as `xmanager.packaging.plan` reads it."""
    store = SnapshotStore(workshop.snapshots)
    survey = store.survey(spec.path, limits=Limits.of(workshop.environ))
    plan: dict[str, Any] = {
        'snapshot': {
            'path': spec.path,
            'digest': survey.digest,
            'files': survey.files,
            'bytes': survey.bytes,
            'exists': any(kept.digest == survey.digest for kept in store.list()),
            'omitted': [{'path': path, 'rule': rule} for path, rule in survey.omitted.items()],
        }
    }
    planned = {'lock': '', 'python': platform.python_version(), 'exists': True}
    if spec.environment is None:
        _check(spec, survey.entries, _launcher_brings)
        locks = [entry.path for entry in survey.entries if entry.path in LOCKS]
        notes = [f'{lock} is not used: give environment=… for what it names' for lock in locks]
        return sys.executable, {'plan': {**plan, 'environment': planned, 'notes': notes}}
    from xmanager.packaging.environments import find_environment

    environment, _ = find_environment(spec.environment, workshop, _asked(spec))
    exists = environment.exists
    _check(spec, survey.entries, lambda module: not exists or environment.brings(module))
    planned |= {'lock': environment.lock, 'key': environment.key, 'exists': exists}
    return str(environment.python), {'plan': {**plan, 'environment': planned}}


def _check(spec: PythonPackage, entries: Iterable[Entry], brings: Callable[[str], bool]) -> None:
    """Raises PackagingError if nothing has the module to be run: neither the folder nor, as `brings` says, packages."""
    files = [entry.path for entry in entries if entry.kind != 'folder']
    installs = False
    if isinstance(spec.entrypoint, ModuleName):
        top = spec.entrypoint.module_name.partition('.')[0]
        is_ours = any(file == f'{top}.py' or file.startswith(f'{top}/') for file in files)
        installs = not is_ours and brings(top)
    entry_point.check_entrypoint(spec.entrypoint, '', files, _asked(spec), installs=installs)


def _launcher_brings(module: str) -> bool:
    """Whether the launcher's interpreter has the module, wherever it starts."""
    here = os.path.dirname(os.path.abspath(sys.argv[0])) if sys.argv else ''
    places = [
        path for path in sys.path if path and os.path.abspath(path) not in (here, os.getcwd())
    ]
    path_finder = importlib.machinery.PathFinder
    return any(  # Editable installations bring finders of their own.
        finder.find_spec(module, places if finder is path_finder else None) is not None
        for finder in sys.meta_path
    )


def _command(entrypoint: ModuleName | CommandList, python: str) -> tuple[str, ...]:
    if isinstance(entrypoint, ModuleName):
        return (python, '-m', entrypoint.module_name)
    return tuple(entry_point.shell_words(entrypoint))


def _as_json(entrypoint: ModuleName | CommandList) -> str | list[str]:
    if isinstance(entrypoint, ModuleName):
        return entrypoint.module_name
    return list(entrypoint.commands)


def _asked(spec: PythonPackage) -> str:
    """How the user would recognise it in an error."""
    return f'xm.python_package(path={spec.path!r})'
