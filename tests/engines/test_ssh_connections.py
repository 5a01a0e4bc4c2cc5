"""What a real sshd and a real ssh do to our connections: shared, refused, cut, closed to us."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engines.sshd import Sshd, made, sshd
from tests.unit.packaging.wheels import environ_for, make_wheel

from xmanager.backends.slurm.remote.channel import Channel, RefusedError
from xmanager.backends.slurm.remote.connection import Connection
from xmanager.backends.slurm.remote.ssh import SshSite
from xmanager.backends.slurm.remote.syncing import Syncer
from xmanager.backends.slurm.remote.translation import Environment
from xmanager.errors import UnreachableError

__all__ = ['sshd']


@pytest.fixture
def site(sshd: Sshd, tmp_path: Path) -> Iterator[SshSite]:
    one = SshSite(sshd.login, sshd.environ, tmp_path)
    yield one
    one.close()


def logins(sshd: Sshd) -> int:
    return sshd.log.count('Accepted publickey')


def test_all_channels_share_one_login(site: SshSite, sshd: Sshd, tmp_path: Path):
    assert site.home() == str(sshd.home)
    other = SshSite(sshd.login, sshd.environ, tmp_path)
    assert other.run(['echo', 'x']).out == 'x\n'
    other.close()
    assert logins(sshd) == 1
    (socket,) = (sshd.folder / 'run' / 'xm-ssh').iterdir()
    assert stat.S_ISSOCK(socket.stat().st_mode)


def test_where_a_connection_takes_one_session_only_others_are_made(site: SshSite, sshd: Sshd):
    sshd.stop()
    sshd.start(None, 'MaxSessions 1')
    looking = site.look([])
    assert site.run(['echo', 'x']).out == 'x\n'
    deadline = time.monotonic() + 30.0
    while looking.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_all_connections_were_cut_the_next_request_is_answered(site: SshSite, sshd: Sshd):
    site.home()
    sshd.cut()
    assert str(sshd.home) in site.list([str(sshd.home)])


def test_what_the_login_shell_prints_is_no_answer(site: SshSite, sshd: Sshd):
    # bash reads it although it is no login shell, for it sees that sshd has started it.
    (sshd.home / '.bashrc').write_text('echo Welcome; echo xmanager-agent; printf "\\0\\0\\0\\1"\n')
    assert site.run(['echo', 'x']).out == 'x\n'


def test_variables_of_this_machine_are_not_sent(sshd: Sshd, tmp_path: Path):
    site = SshSite(sshd.login, {**sshd.environ, 'PRIVATE': 'x', 'LC_PRIVATE': 'x'}, tmp_path)
    assert 'PRIVATE' not in site.run(['env']).out
    site.close()


def test_a_key_that_is_not_accepted_is_told_with_the_way_out(site: SshSite, sshd: Sshd):
    (sshd.folder / 'authorized_keys').write_text('')
    with pytest.raises(UnreachableError, match='Permission denied') as caught:
        site.home()
    assert f'ssh-copy-id {sshd.login}' in str(caught.value)
    assert '-oControlMaster=auto' in str(caught.value)


def test_an_unknown_host_key_is_told_with_the_way_out(site: SshSite, sshd: Sshd):
    (sshd.folder / 'known_hosts').write_text('')
    with pytest.raises(UnreachableError, match=f'Run `ssh {sshd.login}` once and confirm it'):
        site.home()


def test_another_host_key_than_last_time_is_told(site: SshSite, sshd: Sshd):
    known = sshd.folder / 'known_hosts'
    other = (sshd.folder / 'user_key.pub').read_text()
    known.write_text(f'[127.0.0.1]:{sshd.port} {other}')
    with pytest.raises(UnreachableError, match='its host key is another one than last time'):
        site.home()


def test_no_sshd_and_no_such_host_are_told(site: SshSite, sshd: Sshd, tmp_path: Path):
    sshd.stop()
    with pytest.raises(UnreachableError, match=r'cannot be reached over SSH: .*Connection refused'):
        site.home()
    nowhere = SshSite('me@no-such-host.invalid', sshd.environ, tmp_path)
    with pytest.raises(UnreachableError, match='there is no such host'):
        nowhere.home()


def test_a_connection_that_the_user_keeps_open_is_used(sshd: Sshd, tmp_path: Path):
    """Where a login asks for a code, this is how one gets in: once by hand."""
    config = sshd.folder / 'ssh_config'
    path = sshd.folder / 'run' / 'mine'
    config.write_text(f'{config.read_text()} ControlPath {path}\n')
    ssh = ['ssh', '-M', '-N', '-f', sshd.login]
    subprocess.run(ssh, env=sshd.environ, check=True, stdin=subprocess.DEVNULL)
    (sshd.folder / 'authorized_keys').write_text('')
    site = SshSite(sshd.login, sshd.environ, tmp_path)
    assert site.home() == str(sshd.home)
    site.close()
    subprocess.run(['ssh', '-O', 'exit', sshd.login], env=sshd.environ, check=True)


def test_a_folder_in_which_nothing_can_be_written_is_told(sshd: Sshd, tmp_path: Path):
    environ = {**sshd.environ, 'XM_SLURM_ROOT': '/proc/nowhere'}
    site = SshSite(sshd.login, environ, tmp_path)
    with pytest.raises(UnreachableError, match=f'{sshd.login}: /proc/nowhere'):
        site.write({'/proc/nowhere/x/y': b''})
    site.close()


def test_an_environment_is_made_there_from_its_lock_file(tmp_path: Path):
    wheels = tmp_path / 'wheels'
    make_wheel(wheels, 'alpha')
    make_wheel(wheels, 'alpha', '2.0')
    (tmp_path / 'environment' / 'lock').mkdir(parents=True)
    lock = tmp_path / 'environment' / 'lock' / 'requirements.txt'
    lock.write_text('alpha==1.0\n')
    version = f'{sys.version_info.major}.{sys.version_info.minor}'
    need = Environment(str(tmp_path / 'environment'), lock.name, 'k1', version)
    with made() as sshd:
        local = sshd.home / '.local' / 'bin'
        local.mkdir(parents=True)
        (local / 'uv').symlink_to(Path(sys.executable).with_name('uv'))
        path = f'{os.path.dirname(os.path.realpath(sys.executable))}:/usr/bin:/bin'
        sshd.start({**environ_for(wheels, {}), 'PATH': path})
        steps: list[str] = []
        with Channel(Connection(sshd.login, sshd.environ)) as channel:
            Syncer(channel, steps.append).bring(need)
            folder = sshd.home / '.xmanager' / 'cache' / 'environments' / 'k1'
            program = [str(folder / 'bin' / 'alpha-run')]
            said, output = channel.ask('run', argv=program, env={}, limit=30.0)
            assert (said['code'], output) == (0, b'alpha 1.0\n')
            assert '+ alpha==1.0' in steps
            lock.write_text('alpha==3.0\n')
            Syncer(channel, steps.append).bring(need)  # It is there.
            with pytest.raises(RefusedError, match=r'alpha==3\.0'):
                Syncer(channel, steps.append).bring(
                    Environment(need.folder, need.lock, 'k2', version)
                )
