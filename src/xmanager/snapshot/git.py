"""What is asked of git, if the folder is in a repository: where its rules are, what it tracks in spite of them."""

from __future__ import annotations

import os
from typing import Final

_SECONDS: Final = 20


def repository_of(root: str) -> str | None:
    """The top of the git work tree that holds `root`."""
    folder = root
    while not os.path.lexists(f'{folder}/.git'):
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
    return folder


def exclude_file_of(top: str) -> str:
    """`info/exclude`, which all work trees of a repository share."""
    folder = _folder_of(top)
    common = _first_line(f'{folder}/commondir')
    return os.path.normpath(os.path.join(folder, common, 'info', 'exclude'))


def index_of(top: str) -> str:
    """The file in which git keeps what it tracks."""
    return f'{_folder_of(top)}/index'


def _folder_of(top: str) -> str:
    """`.git`, or of a work tree or submodule the folder that the file `.git` names."""
    line = _first_line(f'{top}/.git')
    return (
        os.path.normpath(os.path.join(top, line.removeprefix('gitdir: ')))
        if line
        else f'{top}/.git'
    )


def _first_line(path: str) -> str:
    try:
        with open(path, errors='surrogateescape') as file:
            return file.readline().rstrip('\n')
    except OSError:
        return ''


def ignored_but_tracked(root: str) -> list[str]:
    """Paths below `root` which git tracks although its own rules leave them out; none where there is no git."""
    import subprocess  # Late: costs 10 ms.

    # The repository may be another user's, and nothing that it configures may run.
    command = [
        *('git', '-C', root, '-c', 'safe.directory=*', '-c', 'core.fsmonitor=false'),
        *('ls-files', '-z', '--cached', '--ignored', '--exclude-standard'),
    ]
    variables = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            env={**variables, 'GIT_OPTIONAL_LOCKS': '0'},
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    return sorted({os.fsdecode(name) for name in done.stdout.split(b'\0') if name})
