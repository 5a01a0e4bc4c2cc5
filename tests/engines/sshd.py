"""A real sshd on loopback, with keys, configuration and home folders of its own, all in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from tests.engines.servers import free_port, require

__all__ = ['Sshd', 'sshd']

HOST: Final = 'cluster'
"""The name of the host in the configuration that `ssh` finds."""

_SECONDS: Final = 30.0
_PRIVILEGES: Final = Path('/run/sshd')  # sshd, when it runs as root, wants this folder.


class Sshd:
    """An sshd that may be stopped and started; its port stays.

    `home` is HOME of whoever logs in, which is `user`. `environ` is the environment of somebody whose `ssh` knows it.
    """

    def __init__(self, folder: Path, user: str = '') -> None:
        self.folder = folder
        self.port = free_port()
        self.user = user or pwd.getpwuid(os.geteuid()).pw_name
        self.home = folder / 'home'
        self.login = f'{self.user}@{HOST}'
        self._process: subprocess.Popen[bytes] | None = None
        self.home.mkdir(mode=0o700)
        if user:
            shutil.chown(self.home, user)
        for key in ('host_key', 'user_key'):
            _run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', str(folder / key))
        shutil.copy(folder / 'user_key.pub', folder / 'authorized_keys')
        self._write_client()

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith('SSH_')}
        path = f'{self.folder}/bin:{kept.get("PATH", os.defpath)}'
        return {**kept, 'PATH': path, 'XDG_RUNTIME_DIR': str(self.folder / 'run')}

    @property
    def log(self) -> str:
        return (self.folder / 'log').read_text(errors='replace')

    def start(self, variables: Mapping[str, str] | None = None, *more: str) -> None:
        """With `variables` in the environment of whoever logs in, and `more` lines of configuration."""
        self._write_server({'HOME': str(self.home), **(variables or {})}, more)
        program = shutil.which('sshd', path=f'{os.environ["PATH"]}:/usr/sbin') or 'sshd'
        with (self.folder / 'log').open('ab') as log:
            self._process = subprocess.Popen(
                [program, '-D', '-e', '-f', str(self.folder / 'sshd_config')],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for_answer()

    def stop(self) -> None:
        """Ends it, and all connections that it has."""
        if self._process is None:
            return
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(_SECONDS)
        self._process = None

    def cut(self) -> None:
        """Ends all connections, with what runs in them; new ones are taken."""
        assert self._process is not None
        for pid in _descendants(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end_masters(self) -> None:
        """Ends the connections that `ssh` keeps for others to share."""
        for path in (self.folder / 'run').glob('xm-ssh/*'):
            command = ['ssh', '-o', f'ControlPath={path}', '-O', 'exit', HOST]
            subprocess.run(
                command, env=self.environ, capture_output=True, check=False, timeout=_SECONDS
            )

    def _write_client(self) -> None:
        (self.folder / 'known_hosts').write_text(
            f'[127.0.0.1]:{self.port} {(self.folder / "host_key.pub").read_text()}'
        )
        (self.folder / 'ssh_config').write_text(
            f'Host {HOST}\n HostName 127.0.0.1\n Port {self.port}\n User {self.user}\n'
            f' IdentityFile {self.folder}/user_key\n IdentitiesOnly yes\n'
            f' UserKnownHostsFile {self.folder}/known_hosts\n GlobalKnownHostsFile none\n'
        )
        # ssh looks for its configuration in the home that the system knows, whatever HOME says.
        program = self.folder / 'bin' / 'ssh'
        program.parent.mkdir()
        program.write_text(
            f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.folder}/ssh_config "$@"\n'
        )
        program.chmod(0o755)
        (self.folder / 'run').mkdir(mode=0o700)

    def _write_server(self, variables: Mapping[str, str], more: tuple[str, ...]) -> None:
        setting = ' '.join(f'"{name}={value}"' for name, value in variables.items())
        lines = (
            f'Port {self.port}',
            'ListenAddress 127.0.0.1',
            f'HostKey {self.folder}/host_key',
            f'AuthorizedKeysFile {self.folder}/authorized_keys',
            f'PidFile {self.folder}/pid',
            'StrictModes no',
            'UsePAM no',
            'PasswordAuthentication no',
            'KbdInteractiveAuthentication no',
            'PermitRootLogin yes',
            f'SetEnv {setting}',
            *more,
        )
        (self.folder / 'sshd_config').write_text('\n'.join(lines) + '\n')
        if os.geteuid() == 0:
            _PRIVILEGES.mkdir(exist_ok=True)

    def _wait_for_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                with socket.create_connection(('127.0.0.1', self.port), 0.5) as connection:
                    if connection.recv(4) == b'SSH-':
                        return
            except OSError:
                pass
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f'no sshd came up\n{self.log[-2000:]}')
            time.sleep(0.01)


def lacks() -> str:
    """What is not installed; '' if all is."""
    programs = ('sshd', 'ssh', 'ssh-keygen')
    path = f'{os.environ["PATH"]}:/usr/sbin'
    missing = [program for program in programs if not shutil.which(program, path=path)]
    return f'{" and ".join(missing)} (apt-get install openssh-server)' if missing else ''


@contextlib.contextmanager
def made(user: str = '') -> Iterator[Sshd]:
    """One that is not started yet, gone afterwards with all connections and files."""
    require('sshd', lacks())
    # The name of a socket may have a hundred bytes only.
    folder = Path(tempfile.mkdtemp(prefix='xms-', dir='/tmp'))
    folder.chmod(0o755)
    one = Sshd(folder, user)
    try:
        yield one
    finally:
        one.end_masters()
        one.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    """A started one, to which the user of the test logs in with another HOME."""
    with made() as one:
        one.start()
        yield one


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=_SECONDS)


def _descendants(pid: int) -> list[int]:
    """The children first."""
    found: list[int] = []
    for task in Path(f'/proc/{pid}/task').glob('*/children'):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += [*_descendants(int(child)), int(child)]
    return found
