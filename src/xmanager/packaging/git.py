"""What git knows of a folder: the commit that its code is near to. Asked beside other work, it costs no time."""

from __future__ import annotations

import os
import re
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import subprocess

# How long an answer is waited for, in seconds, once all else is done: a huge repository must not hold up a launch.
_PATIENCE: Final = 0.3
_CREDENTIALS: Final = re.compile(
    r'(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^\s/@:]*)(?P<rest>:[^\s/@]*)?@', re.I
)
# No index is written, nothing is asked of a person, no program that the repository names is started.
_QUIETLY: Final = ('-c', 'core.fsmonitor=false')


class GitQuestion:
    """Asks git about a folder from now on; `answer` waits for what it says. Leaving the context ends the asking."""

    def __init__(self, folder: str, patience: float = _PATIENCE) -> None:
        self._folder = folder
        self._patience = patience
        self._status: subprocess.Popen[bytes] | None = None
        self._remote: subprocess.Popen[bytes] | None = None
        if _is_in_repository(folder):
            # What is of the folder alone; a submodule counts as changed if another commit of it is checked out.
            about = ('--branch', '--untracked-files=normal', '--ignore-submodules=dirty')
            self._status = self._ask('status', '--porcelain=v2', '-z', *about, '--', '.')
            self._remote = self._ask('config', '--get', 'remote.origin.url')

    def __enter__(self) -> GitQuestion:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for asked in (self._status, self._remote):
            if asked is not None:
                asked.kill()
                asked.communicate()

    def answer(self) -> dict[str, Any]:
        """`commit`, `branch`, `remote`, and `dirty`: whether something in the folder differs from the commit.

        What isn't known is left out, as `dirty` is where git takes too long; {} without a repository.
        """
        status = self._answer(self._status)
        found = self._head() if status is None else _read_status(status)
        remote = (self._answer(self._remote) or '').strip()
        if remote:
            found['remote'] = mask_credentials(remote)
        return found

    def _head(self) -> dict[str, Any]:
        """What needs no look at the files."""
        if self._status is None:
            return {}
        asked = self._ask('rev-parse', 'HEAD', '--abbrev-ref', 'HEAD')
        commit, _, branch = (self._answer(asked) or '').strip().partition('\n')
        found = {'commit': commit, 'branch': '' if branch == 'HEAD' else branch}
        return {name: value for name, value in found.items() if value}

    def _ask(self, *arguments: str) -> subprocess.Popen[bytes] | None:
        import subprocess

        # Variables of a git that runs us, as a hook, would name its repository and index in place of ours.
        environ = {name: value for name, value in os.environ.items() if not name.startswith('GIT_')}
        try:
            return subprocess.Popen(
                ['git', '-C', self._folder, *_QUIETLY, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environ, 'GIT_OPTIONAL_LOCKS': '0', 'GIT_TERMINAL_PROMPT': '0'},
            )
        except OSError:  # There is no git: nothing is known.
            return None

    def _answer(self, asked: subprocess.Popen[bytes] | None) -> str | None:
        """What it printed; None if it failed or takes too long."""
        import subprocess

        if asked is None:
            return None
        try:
            said, _ = asked.communicate(timeout=self._patience)
        except subprocess.TimeoutExpired:
            asked.kill()
            asked.communicate()
            return None
        return said.decode(errors='replace') if asked.returncode == 0 else None


def mask_credentials(text: str) -> str:
    """A text in which addresses show no passwords: of web addresses no user either, who may be a token."""

    def masked(match: re.Match[str]) -> str:
        scheme, user, rest = match['scheme'], match['user'], match['rest']
        if scheme.lower() in ('http', 'https'):
            return f'{scheme}://***@'
        return f'{scheme}://{user}{":***" if rest else ""}@'

    return _CREDENTIALS.sub(masked, text)


def _is_in_repository(folder: str) -> bool:
    """Whether git has anything to say: asking it costs milliseconds."""
    while not os.path.lexists(os.path.join(folder, '.git')):
        parent = os.path.dirname(folder)
        if parent == folder:
            return False
        folder = parent
    return True


def _read_status(status: str) -> dict[str, Any]:
    """Reads `git status --porcelain=v2 --branch -z`."""
    lines = [line for line in status.split('\0') if line]
    heads = dict(line[2:].split(' ', 1) for line in lines if line.startswith('# branch.'))
    found: dict[str, Any] = {}
    if (commit := heads.get('branch.oid', '(initial)')) != '(initial)':
        found['commit'] = commit
    if (branch := heads.get('branch.head', '(detached)')) != '(detached)':
        found['branch'] = branch
    found['dirty'] = any(not line.startswith('# ') for line in lines)
    return found
