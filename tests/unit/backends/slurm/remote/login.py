"""A login node without a network: a program `ssh` on PATH that runs what it is given in a home of its own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import attrs
import pytest

_SSH = """#!/bin/sh
case " $* " in *' -G '*) echo 'controlpath none'; exit 0;; esac
echo "$*" >>"$XM_FAKE_LOGIN/calls"
if [ -e "$XM_FAKE_LOGIN/fails" ]; then cat "$XM_FAKE_LOGIN/fails" >&2; exit 255; fi
for command; do :; done
folder=$XM_FAKE_LOGIN
[ ! -e "$folder/banner" ] || cat "$folder/banner"
echo $$ >"$folder/pid"
exec env -i HOME="$folder/home" PATH="$folder/bin:$folder/system" SHELL=/bin/sh /bin/sh -c "$command"
"""
_SYSTEM = ('cat', 'echo', 'env', 'sh', 'sleep')


@attrs.frozen
class Login:
    """`home` is HOME there, `bin` goes before its PATH; `environ` is the environment of who logs in."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / 'home'

    @property
    def root(self) -> Path:
        return self.home / '.xmanager'

    @property
    def bin(self) -> Path:
        return self.folder / 'bin'

    @property
    def environ(self) -> dict[str, str]:
        return {
            'PATH': f'{self.folder}/here:/usr/bin:/bin',
            'HOME': '/nowhere',
            'XDG_RUNTIME_DIR': str(self.folder),
            'XM_FAKE_LOGIN': str(self.folder),
        }

    @property
    def calls(self) -> list[str]:
        return (self.folder / 'calls').read_text().splitlines()

    def fail(self, said: str) -> None:
        """From now on ssh fails with these words, and comes to nothing."""
        (self.folder / 'fails').write_text(said)

    def recover(self) -> None:
        (self.folder / 'fails').unlink()

    def program(self, name: str, text: str) -> None:
        """A program that is there."""
        path = self.bin / name
        path.write_text(f'#!/bin/sh\n{text}\n')
        path.chmod(0o755)


def make(folder: Path) -> Login:
    login = Login(folder)
    for name in ('home', 'bin', 'here', 'system'):
        (folder / name).mkdir(parents=True)
    for name in _SYSTEM:  # Where this machine has Slurm, that one has not.
        (folder / 'system' / name).symlink_to(shutil.which(name) or f'/bin/{name}')
    # To try the agent with an older Python than ours: XM_TEST_LOGIN_PYTHON=/usr/bin/python3.6
    python = os.environ.get('XM_TEST_LOGIN_PYTHON') or os.path.realpath(sys.executable)
    (folder / 'system' / 'python3').symlink_to(python)
    ssh = folder / 'here' / 'ssh'
    ssh.write_text(_SSH)
    ssh.chmod(0o755)
    return login


@pytest.fixture
def login(tmp_path: Path) -> Login:
    """Given to a test module by importing it there."""
    return make(tmp_path / 'login')
