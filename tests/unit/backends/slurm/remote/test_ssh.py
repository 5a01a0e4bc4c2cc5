"""A cluster over SSH, with a program in place of `ssh` that goes nowhere."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.unit.backends.slurm.remote.login import Login, login

from xmanager.backend import Rejected, Task, Unit
from xmanager.backends.slurm.cluster import Cluster
from xmanager.backends.slurm.remote.channel import Channel
from xmanager.backends.slurm.remote.connection import Connection
from xmanager.backends.slurm.remote.ssh import SshSite
from xmanager.backends.slurm.site import NoProgramError
from xmanager.errors import ExecutorError, UnreachableError

__all__ = ['login']

_SECONDS = 30.0


@pytest.fixture
def site(login: Login, tmp_path: Path):
    one = SshSite('me@there', login.environ, tmp_path / 'home')
    yield one
    one.close()


def wait_for(condition):
    deadline = time.monotonic() + _SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def reached(site: SshSite) -> str:
    """HOME there; '' while it can't be reached."""
    try:
        return site.home()
    except UnreachableError:
        return ''


def unit(home: Path, *tasks: Task, label: str = '1', attempt: int = 1) -> Unit:
    folder = home / 'experiments' / '7' / label
    return Unit(7, label, attempt, f'abc.7.{label}.{attempt}', folder, tasks)


def task(**changes) -> Task:
    return Task(**{'name': 'train', 'full_name': '', 'argv': ('true',), 'cwd': '/', **changes})


def test_commands_run_there_with_secrets_that_stand_on_no_command_line(site, login):
    argv = ['sh', '-c', 'echo "$1|$TOKEN|$HOME"; echo no >&2; exit 3', 'sh', "it's $HOME"]
    answer = site.run(argv, env={'TOKEN': 'hush'})
    assert (answer.code, answer.err) == (3, 'no\n')
    assert answer.out == f"it's $HOME|hush|{login.home}\n"
    assert 'hush' not in (login.folder / 'calls').read_text()
    assert 'echo' not in (login.folder / 'calls').read_text()


def test_nothing_of_this_machines_environment_is_there(login, tmp_path):
    environ = {**login.environ, 'PRIVATE': 'x', 'XM_HOME': '/here'}
    site = SshSite('me@there', environ, tmp_path)
    assert 'PRIVATE' not in (said := site.run(['env']).out)
    assert 'XM_HOME' not in said
    site.close()


def test_a_login_shell_may_print_what_it_likes(site, login):
    (login.folder / 'banner').write_text('Welcome!\nxmanager-agent\n\0')
    assert site.home() == str(login.home)


def test_many_requests_go_over_one_connection(site, login):
    for number in range(5):
        site.write({f'{login.root}/x/{number}': b'%d' % number})
    assert site.read([f'{login.root}/x/{number}' for number in range(9)]) == {
        f'{login.root}/x/{number}': b'%d' % number for number in range(5)
    }
    assert len(login.calls) == 1


def test_files_are_written_before_the_command_runs(site, login):
    path = f'{login.root}/batch/data'
    answer = site.submit({path: b'words'}, ['cat', path])
    assert answer.out == 'words'


def test_a_lost_connection_is_made_again_but_no_command_is_repeated(site, login):
    site.home()
    kill = f'kill -9 $PPID; echo ran >>{login.folder}/ran'
    with pytest.raises(UnreachableError):
        site.run(['sh', '-c', kill])
    wait_for((login.folder / 'ran').exists)
    assert site.list([str(login.home)])
    assert (login.folder / 'ran').read_text() == 'ran\n'


def test_a_lost_connection_does_not_fail_what_may_be_repeated(site, login):
    site.home()
    agent = int((login.folder / 'pid').read_text())
    os.kill(agent, signal.SIGKILL)
    assert str(login.home) in site.list([str(login.home)])


def test_a_command_that_gives_no_answer_is_out_of_reach(site):
    with pytest.raises(UnreachableError, match=r'sleep gave no answer in 0\.2 s on me@there'):
        site.run(['sleep', '1000'], timeout=0.2)


def test_a_missing_command_is_named(site):
    with pytest.raises(
        NoProgramError, match=r'no-sbatch is not on PATH of me@there for .*\. Name a login'
    ):
        site.run(['no-sbatch'])


def test_commands_on_the_path_of_login_shells_are_found(site, login):
    """`/etc/profile.d` and `~/.profile` count for login shells only, and SSH starts none."""
    (login.home / 'slurm').mkdir()
    login.program('x', 'echo ours')
    (login.bin / 'x').rename(login.home / 'slurm' / 'sbatch')
    (login.home / '.profile').write_text('PATH=$HOME/slurm:$PATH; echo welcome\n')
    assert site.run(['sbatch']).out == 'ours\n'


def test_a_command_inherits_the_lock_until_it_has_ended(site, login, tmp_path):
    """Its holder may die meanwhile: whoever comes next must not believe that nothing was submitted."""
    path, begun, go = tmp_path / 'lock', tmp_path / 'begun', tmp_path / 'go'
    code = f"""
import fcntl, os
from pathlib import Path
from xmanager.backends.slurm.remote.ssh import SshSite
lock = os.open({str(path)!r}, os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
site = SshSite('me@there', {login.environ!r}, Path({str(tmp_path / 'home')!r}))
site.run(['sh', '-c', 'echo >{begun}; until [ -e {go} ]; do sleep 0.01; done'], lock=lock, timeout=60)
"""
    child = subprocess.Popen([sys.executable, '-c', code])
    wait_for(begun.exists)
    child.kill()
    child.wait()
    other = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    go.touch()

    def free() -> bool:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    wait_for(free)
    os.close(other)


def test_background_commands_and_looks_are_polled(site, login):
    batch = login.root / 'experiments' / 'x' / 'slurm' / 'b1'
    (batch / 'ends').mkdir(parents=True)
    (batch / 'ends' / '0.0.0').write_bytes(b'exited 0\nat 5\n')
    assert wait_for(site.look([str(batch)]).poll) == {
        str(batch): {'ends/0.0.0': b'exited 0\nat 5\n'}
    }
    assert wait_for(site.start(['echo', 'x']).poll).out == 'x\n'
    site.remove([str(batch)])
    assert not batch.exists()


@pytest.mark.parametrize(
    ('said', 'advice'),
    [
        ('me@there: Permission denied (publickey).', 'ssh-copy-id me@there'),
        ('Host key verification failed.', 'Run `ssh me@there` once'),
        ('ssh: Could not resolve hostname there: Name or service not known', 'no such host'),
        ('ssh: connect to host there port 22: Connection refused', 'Connection refused'),
    ],
)
def test_what_ssh_says_becomes_advice(site, login, said, advice):
    login.fail(f'{said}\r\n')
    with pytest.raises(UnreachableError, match='me@there') as caught:
        site.home()
    assert advice in str(caught.value)
    login.recover()
    assert wait_for(lambda: reached(site)) == str(login.home)


def test_who_is_not_let_in_does_not_knock_all_the_time(login):
    """Login nodes lock out who does."""
    now = 1000.0
    connection = Connection('me@there', login.environ, lambda: now)
    login.fail('me@there: Permission denied (publickey).')
    tries = []
    for _ in range(600):
        with pytest.raises(UnreachableError, match='ssh-copy-id me@there'):
            Channel(connection).ask('list', folders=[])
        tries.append(len(login.calls))
        now += 1.0
    assert tries[0] == 1
    assert tries[-1] < 15
    login.recover()
    now += 300.0
    with Channel(connection) as channel:
        assert channel.place.home == str(login.home)


def test_a_missing_python_is_said(login, tmp_path):
    environ = dict(login.environ)
    (login.folder / 'here' / 'ssh').write_text(
        '#!/bin/sh\ncase " $* " in *" -G "*) exit 0;; esac\nfor c; do :; done\n'
        'PATH=/nowhere exec /bin/sh -c "$c"\n'
    )
    site = SshSite('me@there', environ, tmp_path)
    with pytest.raises(UnreachableError, match='has no python3 on PATH'):
        site.home()


def test_connections_are_shared_in_a_private_folder_unless_the_user_shares_them(login):
    options = Connection('me@there', login.environ).command()
    assert f'ControlPath={login.folder}/xm-ssh/%C' in options
    assert 'BatchMode=yes' in options
    folder = login.folder / 'xm-ssh'
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    ssh = login.folder / 'here' / 'ssh'
    ssh.write_text(ssh.read_text().replace('controlpath none', 'controlpath /home/me/.ssh/%C'))
    assert not [one for one in Connection('me@there', login.environ).command() if 'Control' in one]


def test_a_folder_of_sockets_that_others_can_use_is_refused(login):
    folder = login.folder / 'xm-ssh'
    folder.mkdir(mode=0o755)
    with pytest.raises(UnreachableError, match='is not a folder of yours alone'):
        Connection('me@there', login.environ).command()


def test_the_folder_there_is_the_one_that_is_named(login, tmp_path):
    site = SshSite('me@there', {**login.environ, 'XM_SLURM_ROOT': '~/big/xm'}, tmp_path)
    assert site.folder(unit(tmp_path, task())) == f'{login.home}/big/xm/experiments/abc-7/1'
    site.close()


def test_a_python_that_is_no_name_is_refused(login, tmp_path):
    with pytest.raises(ExecutorError, match='XM_SLURM_PYTHON'):
        SshSite('me@there', {**login.environ, 'XM_SLURM_PYTHON': 'python -x'}, tmp_path)


def test_a_folder_that_is_not_there_is_refused_before_anything_is_submitted(site, tmp_path):
    wrong = unit(tmp_path / 'home', task(cwd='/no/such', options={'cwd': '/no/such'}))
    refused = site.prepare([wrong])
    assert isinstance(refused[wrong.key], Rejected)
    assert "cwd '/no/such' is no folder of me@there" in refused[wrong.key].reason


def test_a_folder_that_nobody_named_is_the_users_own_there(site, login, tmp_path):
    here = task(cwd=str(tmp_path), options={'cwd': ''})
    assert site.adapt(unit(tmp_path / 'home', here), here).cwd == str(login.home)


def test_logs_are_followed_and_results_fetched_before_an_end_is_told(site, login, tmp_path):
    one = unit(tmp_path / 'home', task())
    there = Path(site.folder(one)) / 'train'
    (there / 'out' / 'deep').mkdir(parents=True)
    (there / 'output.log').write_bytes(b'one\n')
    here = one.task_folder(one.tasks[0])
    assert site.mirror({'4@b': one}, {}) == frozenset()
    wait_for(
        lambda: (here / 'output.log').exists() and (here / 'output.log').read_bytes() == b'one\n'
    )
    with (there / 'output.log').open('ab') as log:
        log.write(b'two\n')
    (there / 'out' / 'deep' / 'model').write_bytes(data := os.urandom(3_000_000))
    (there / 'out' / 'run.sh').write_text('')
    (there / 'out' / 'run.sh').chmod(0o755)
    (there / 'out' / 'last').symlink_to('deep/model')
    os.mkfifo(there / 'out' / 'pipe')
    wait_for(lambda: site.mirror({}, {'4@b': one}))
    assert (here / 'output.log').read_bytes() == b'one\ntwo\n'
    assert (here / 'out' / 'deep' / 'model').read_bytes() == data
    assert (here / 'out' / 'last').read_bytes() == data
    assert os.access(here / 'out' / 'run.sh', os.X_OK)
    assert sorted(os.listdir(here / 'out')) == ['deep', 'last', 'run.sh']


def test_logs_go_on_where_they_were_when_another_process_follows_them(login, tmp_path):
    one = unit(tmp_path / 'home', task())
    here = one.task_folder(one.tasks[0])
    for number in range(3):
        site = SshSite('me@there', login.environ, tmp_path / 'home')
        there = Path(site.folder(one)) / 'train'
        there.mkdir(parents=True, exist_ok=True)
        with (there / 'output.log').open('ab') as log:
            log.write(b'%d\n' % number)
        wait_for(lambda site=site: site.mirror({}, {'4@b': one}))
        site.close()
    assert (here / 'output.log').read_bytes() == b'0\n1\n2\n'


def test_logs_go_on_after_the_agent_was_killed(site, login, tmp_path):
    one = unit(tmp_path / 'home', task())
    there = Path(site.folder(one)) / 'train'
    there.mkdir(parents=True)
    log, here = there / 'output.log', one.task_folder(one.tasks[0]) / 'output.log'
    log.write_bytes(b'one\n')
    site.mirror({'4@b': one}, {})
    wait_for(lambda: here.exists() and here.read_bytes() == b'one\n')
    os.kill(int((login.folder / 'pid').read_text()), signal.SIGKILL)
    log.rename(there / 'output.1.log')
    log.write_bytes(b'two\n')
    wait_for(lambda: here.read_bytes() == b'two\n')
    assert here.with_name('output.1.log').read_bytes() == b'one\n'


def test_large_results_stay_there_and_the_log_says_where(login, tmp_path):
    environ = {**login.environ, 'XM_SLURM_FETCH_MAX': '1KiB'}
    site = SshSite('me@there', environ, tmp_path / 'home')
    one = unit(tmp_path / 'home', task())
    there = Path(site.folder(one)) / 'train'
    (there / 'out').mkdir(parents=True)
    (there / 'out' / 'model').write_bytes(bytes(5000))
    (there / 'output.log').write_bytes(b'done\n')
    wait_for(lambda: site.mirror({}, {'4@b': one}))
    site.close()
    here = one.task_folder(one.tasks[0])
    assert f'the results stay at me@there:{there}/out' in (here / 'output.log').read_text()
    assert not (here / 'out' / 'model').exists()


def test_results_that_can_not_be_read_are_named_and_those_of_others_come(site, tmp_path):
    one, other = (unit(tmp_path / 'home', task(), label=label) for label in '12')
    for each in (one, other):
        (Path(site.folder(each)) / 'train').mkdir(parents=True)
    there = Path(site.folder(one)) / 'train' / 'out'
    there.symlink_to('out')  # It leads nowhere.
    (Path(site.folder(other)) / 'train' / 'out').mkdir()
    (Path(site.folder(other)) / 'train' / 'out' / 'x').write_text('x')
    both = {'4@b': one, '5@b': other}
    wait_for(lambda: site.mirror({}, both) == {'4@b', '5@b'})
    log = (one.task_folder(one.tasks[0]) / 'output.log').read_text()
    assert "the result '.' could not be fetched: Too many levels of symbolic links" in log
    assert (other.task_folder(other.tasks[0]) / 'out' / 'x').exists()


def test_a_result_for_which_there_is_no_place_here_is_named_and_the_others_come(
    site, login, tmp_path
):
    one = unit(tmp_path / 'home', task())
    there = Path(site.folder(one)) / 'train'
    (there / 'out').mkdir(parents=True)
    for name in ('a', 'b', 'c'):
        (there / 'out' / name).write_text(name)
    here = one.task_folder(one.tasks[0])
    (here / 'out' / 'b' / 'inner').mkdir(parents=True)
    wait_for(lambda: site.mirror({}, {'4@b': one}))
    assert "the result 'b' could not be fetched" in (here / 'output.log').read_text()
    assert sorted(path.name for path in (here / 'out').iterdir()) == ['a', 'b', 'c']


def test_a_failure_here_while_answers_come_does_not_mix_up_the_next_ones(login):
    many = login.home / 'many'
    many.mkdir()
    for number in range(100):
        (many / str(number)).write_text('x')

    def hear(said, data):
        raise KeyboardInterrupt

    with Channel(Connection('me@there', login.environ)) as channel:
        folders = [['k', str(many), {}, 10_000]]
        with pytest.raises(KeyboardInterrupt):
            channel.ask('results', needs='agent_watching', hear=hear, folders=folders)
        said, _ = channel.ask('list', folders=[str(login.home)])
        assert list(said['found']) == [str(login.home)]


def test_what_was_asked_once_is_known_without_a_connection(site, login, tmp_path):
    assert site.home() == str(login.home)
    login.fail('ssh: connect to host there port 22: Connection refused')
    later = SshSite('me@there', login.environ, tmp_path / 'home')
    assert later.folder(unit(tmp_path, task())) == f'{login.root}/experiments/abc-7/1'
    with pytest.raises(UnreachableError, match='Connection refused') as caught:
        later.run(['true'])
    assert not isinstance(caught.value, NoProgramError)
    later.close()


def test_the_folder_there_stays_the_same_whatever_the_environment_there_says(site, login, tmp_path):
    site.home()
    ssh = login.folder / 'here' / 'ssh'
    ssh.write_text(ssh.read_text().replace('env -i ', 'env -i XM_SHARED=/elsewhere '))
    later = SshSite('me@there', login.environ, tmp_path / 'home')
    later.run(['true'])
    assert later.folder(unit(tmp_path, task())) == f'{login.root}/experiments/abc-7/1'
    first = SshSite('me@there', login.environ, tmp_path / 'another')
    assert first.folder(unit(tmp_path, task())) == '/elsewhere/experiments/abc-7/1'
    for one in (later, first):
        one.close()


def test_a_login_that_was_never_reached_is_refused_when_a_job_is_added(site, login):
    login.fail('Host key verification failed.')
    with pytest.raises(NoProgramError, match='Run `ssh me@there` once'):
        site.run(['sbatch', '--test-only'])
    with pytest.raises(ExecutorError) as caught:
        Cluster(site, login.environ, 'me@there').check([()])
    assert str(caught.value).endswith('confirm it. (ssh: Host key verification failed.)')


def test_a_closed_site_may_be_used_again(site, login, tmp_path):
    one = unit(tmp_path / 'home', task())
    there = Path(site.folder(one)) / 'train'
    there.mkdir(parents=True)
    (there / 'output.log').write_bytes(b'x')
    for number in range(2):
        pid = tmp_path / f'pid{number}'
        running = site.start(['sh', '-c', f'echo $$ >{pid}; exec sleep 1000'])
        wait_for(lambda pid=pid: pid.exists() and pid.read_text().endswith('\n'))
        wait_for(lambda: site.mirror({}, {'4@b': one}))
        begun = time.monotonic()
        site.close()
        assert time.monotonic() - begun < 20
        with pytest.raises(UnreachableError):
            running.poll()
        # The agent is a child of this ssh, and was killed with it.
        os.kill(int(pid.read_text()), signal.SIGKILL)
    assert site.run(['echo', 'x']).out == 'x\n'


def test_results_never_leave_their_folder(tmp_path):
    from xmanager.backends.slurm.remote.results import _Receiver

    (tmp_path / 'train' / 'out').mkdir(parents=True)
    receiver = _Receiver(tmp_path / 'train')
    receiver.take({'path': 'a', 'link': '/tmp', 'time': 0, 'mode': 0o777}, b'')
    for path in ('../x', 'b/../../x', '/etc/x', 'a/x'):
        with pytest.raises(OSError, match='the cluster names a result'):
            receiver.take({'path': path, 'last': True, 'time': 0, 'mode': 0o600}, b'x')


def test_no_link_that_the_cluster_sends_is_written_through(tmp_path):
    from xmanager.backends.slurm.remote.results import _Receiver

    out, precious = tmp_path / 'train' / 'out', tmp_path / 'precious'
    out.mkdir(parents=True)
    precious.write_text('mine')
    receiver = _Receiver(tmp_path / 'train')
    facts = {'time': 0, 'mode': 0o4755}
    for name in ('x', '.x.xm-part', '.x', '.fetched'):
        receiver.take({'path': name, 'link': str(precious), **facts}, b'')
    receiver.take({'path': 'x', 'last': True, **facts}, b'theirs')
    assert precious.read_text() == 'mine'
    assert (out / 'x').read_text() == 'theirs'
    assert stat.S_IMODE((out / 'x').stat().st_mode) == 0o755


def test_results_may_have_the_longest_of_names(site, tmp_path):
    one = unit(tmp_path / 'home', task())
    there = Path(site.folder(one)) / 'train' / 'out'
    there.mkdir(parents=True)
    (there / ('日' * 85)).write_text('x')
    wait_for(lambda: site.mirror({}, {'4@b': one}))
    assert os.listdir(one.task_folder(one.tasks[0]) / 'out') == ['日' * 85]
