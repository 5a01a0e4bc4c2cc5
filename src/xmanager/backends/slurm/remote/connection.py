"""How the login node is reached: the command line of the system's `ssh`, and what its failures mean for the user."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final

from xmanager.errors import UnreachableError

# One string for the login shell there, whichever it is: constant, without anything that sh, csh or fish would expand.
# Standard input brings the program that is run, then all else.
_BOOTSTRAP: Final = (
    'exec python3 -I -S -c '
    "'import sys, zlib; i=sys.stdin.buffer; exec(zlib.decompress(i.read(int(i.readline()))))'"
)
_PERSIST: Final = 600
_CONNECT: Final = 15
_OPTIONS: Final = (
    'BatchMode=yes',  # A question would never be answered: nobody sits there.
    f'ConnectTimeout={_CONNECT}',
    'ServerAliveInterval=15',
    'ServerAliveCountMax=3',
    'LogLevel=ERROR',
    'RequestTTY=no',
    'RemoteCommand=none',
    'PermitLocalCommand=no',
    'ClearAllForwardings=yes',
    'ForwardAgent=no',
    'ForwardX11=no',
)
_NO_SUCH_PROGRAM: Final = 127
_REFUSED: Final = 'it lets nobody in without asking'
_LONGEST, _LONGEST_REFUSED = 10.0, 300.0  # Seconds from one try to the next.

# What ssh says (OpenSSH 7 to 10), and what the user can do about it.
_MEANINGS: Final = (
    (
        r'REMOTE HOST IDENTIFICATION HAS CHANGED',
        'its host key is another one than last time. If that is right, run `ssh-keygen -R` for it, then `{ssh}` once',
    ),
    (
        r'Host key verification failed',
        'its host key is not known here. Run `{ssh}` once and confirm it',
    ),
    (
        r'Permission denied|Too many authentication failures|No more authentication methods',
        f'{_REFUSED}. Add your key there (`ssh-copy-id {{login}}`); or, if it asks for a code or a '
        'password each time, run `{once}` first, which keeps the connection for the others',
    ),
    (
        r'Could not resolve hostname',
        'there is no such host. Correct login=, or add it to ~/.ssh/config',
    ),
    (r'Bad owner or permissions|Bad configuration option', 'your configuration of ssh has a flaw'),
)


class Connection:
    """One login, such as `user@host`; `environ` is the environment in which `ssh` runs. Threads may share it."""

    def __init__(
        self,
        login: str,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.login = login
        self.environ = dict(environ)
        self._clock = clock
        self._failures = 0
        self._last: tuple[float, str] = (0.0, '')

    def check(self) -> None:
        """Raises the last failure again unless some time has passed since: who knocks too often is locked out."""
        until, said = self._last
        if self._failures and self._clock() < until:
            raise UnreachableError(said)

    def failed(self, said: str) -> None:
        """It could not be opened. The next try is due later, much later for who is not let in."""
        self._failures += 1
        longest = _LONGEST_REFUSED if _REFUSED in said else _LONGEST
        pause = min(2.0 ** min(self._failures - 1, 16), longest)
        self._last = (self._clock() + pause, said)

    def succeeded(self) -> None:
        """It is open."""
        self._failures = 0

    @property
    def patience(self) -> float:
        """Seconds after which a connection that isn't there won't come."""
        return 2.0 * _CONNECT

    def command(self) -> list[str]:
        """What starts the agent. All channels of a login share one connection, be it that of the user's own set-up."""
        return ['ssh', '-T', '-e', 'none', *self._options(), '--', self.login, _BOOTSTRAP]

    def _options(self) -> list[str]:
        return [word for option in (*_OPTIONS, *self._sharing) for word in ('-o', option)]

    @cached_property
    def _sharing(self) -> tuple[str, ...]:
        if self._shares_already():
            return ()
        path = f'ControlPath={self._folder()}/%C'
        return ('ControlMaster=auto', path, f'ControlPersist={_PERSIST}')

    def _shares_already(self) -> bool:
        """Whether the user's configuration says where connections to this host are shared."""
        try:
            done = subprocess.run(
                ['ssh', '-G', '--', self.login],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_CONNECT,
                check=False,
            )
        except FileNotFoundError as error:
            raise UnreachableError(
                'ssh is not on PATH. Install OpenSSH: its client is needed.'
            ) from error
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(f'ssh gave no answer in {_CONNECT} s.') from error
        path = re.search(r'^controlpath (.+)$', done.stdout, re.MULTILINE)
        return path is not None and path[1] != 'none'

    def _folder(self) -> str:
        """A folder of the user alone; its path is short, for a socket's name may have a hundred bytes only."""
        runtime = self.environ.get('XDG_RUNTIME_DIR', '')
        folder = f'{runtime}/xm-ssh' if os.path.isdir(runtime) else f'/tmp/xm-ssh-{os.getuid()}'
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise UnreachableError(f'{folder} is not a folder of yours alone. Remove it.')
        return folder

    def explain(self, code: int | None, said: str) -> str:
        """One sentence on why there is no connection, from the exit code and the last words of `ssh`."""
        words = said.strip().rpartition('\n')[2].strip()
        ssh = shlex.join(['ssh', self.login])
        once = shlex.join(['ssh', *(f'-o{one}' for one in self._sharing), self.login, 'true'])
        for pattern, meaning in _MEANINGS:
            if re.search(pattern, said):
                advice = meaning.format(ssh=ssh, login=shlex.quote(self.login), once=once)
                return f'{self.login} cannot be used over SSH: {advice}. (ssh: {words})'
        if code == _NO_SUCH_PROGRAM:
            return f'{self.login} has no python3 on PATH, which must be 3.6 or newer. Install it there.'
        return f'{self.login} cannot be reached over SSH: {words or f"ssh ended with exit code {code}"}'
