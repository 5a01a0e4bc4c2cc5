"""A home that can't be used says so in one sentence, and what was there before is not harmed."""

import contextlib
import os
import sqlite3
import subprocess

import pytest
from tests.acceptance.living import processes_of
from tests.acceptance.polling import until

ONE = """
    from shell_jobs import shell, xm_local
    with xm_local.create_experiment('one') as experiment:
        experiment.add(shell(experiment, 'echo done'))
"""


@pytest.fixture
def mounted(tmp_path):
    """Mounts a small file system for as long as the test runs."""
    places = []

    def mount(name, options):
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        done = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', place],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f'this machine lets us mount nothing: {done.stderr.strip()}')
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(['umount', '--lazy', place], check=True)


def fill(file):
    """Writes until nothing more can be written."""
    with contextlib.suppress(OSError), file.open('wb', buffering=0) as stream:
        while stream.write(b'x' * 4096):
            pass


def test_a_home_below_a_file_can_not_be_made(launch, xmanager, desk):
    desk.write('file', 'mine')
    place = str(desk.folder / 'file' / 'home')
    for result in (launch(ONE, XM_HOME=place), xmanager('list', XM_HOME=place)):
        assert result.code in (1, 2)
        assert place in result.message
    assert xmanager('doctor', XM_HOME=place).code == 1
    assert desk.read('file') == 'mine'


def test_a_home_that_can_not_be_written_can_be_read(launch, xmanager, desk, home, mounted):
    launch(ONE)
    place = mounted('readonly', 'size=20m')
    subprocess.run(['cp', '-a', f'{home}/.', place], check=True)
    subprocess.run(['mount', '-o', 'remount,ro', place], check=True)
    refused = launch(ONE, XM_HOME=str(place))
    assert refused.code == 1
    assert str(place) in refused.message
    for words in (['list'], ['show', '1'], ['logs', '1'], ['where', '1']):
        read = xmanager(*words, XM_HOME=str(place))
        assert read.code == 0, read.stderr
    assert xmanager('doctor', XM_HOME=str(place)).code == 1


def test_a_home_that_is_full_fails_in_words_and_works_again_when_there_is_room(
    launch, xmanager, mounted
):
    place = mounted('full', 'size=2m')
    assert launch(ONE, XM_HOME=str(place)).code == 0
    filler = place / 'filler'
    fill(filler)
    refused = launch(ONE, XM_HOME=str(place))
    assert refused.code == 1
    assert 'Traceback' not in refused.stderr
    assert 'full' in refused.stderr or 'No space left' in refused.stderr
    filler.unlink()
    assert launch(ONE, XM_HOME=str(place)).code == 0
    shown = xmanager('list', '--json', XM_HOME=str(place)).json['experiments']
    assert [experiment['state'] for experiment in shown][-1] == 'completed'


def test_a_job_that_fills_the_home_loses_nothing_once_there_is_room(start, xmanager, mounted):
    place = mounted('filled', 'size=4m')
    launcher = start(
        """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('filling') as experiment:
            fill = 'head -c 100M /dev/zero'
            experiment.add(shell(experiment, fill, experimental_stream_output=False))
            experiment.add(shell(experiment, 'true'))
        """,
        '--xm_local_resources=cpu=1',
        XM_HOME=str(place),
    )
    log = place / 'experiments/1/1/job/output.log'
    until(lambda: log.exists() and os.statvfs(place).f_bavail == 0)
    until(lambda: len(processes_of(place)) <= 2)  # The job is over; nobody can write that down.
    log.unlink()
    result = launcher.ended()
    assert 'Traceback' not in result.stderr
    assert result.code == 1
    assert xmanager('wait', '1', XM_HOME=str(place)).code == 1
    shown = xmanager('show', '1', '--json', XM_HOME=str(place)).json['experiment']['units']
    assert [(unit['state'], unit['attempt']) for unit in shown] == [('failed', 1), ('completed', 1)]
    assert shown[0]['jobs'][0]['exit_code'] == 1
    until(lambda: not processes_of(place))


def test_a_damaged_database_is_told_of_and_left_as_it_is(launch, xmanager, home):
    home.mkdir()
    damaged = b'SQLite format 3\0' + os.urandom(8192)
    (home / 'xmanager.db').write_bytes(damaged)
    for result in (launch(ONE), xmanager('list'), xmanager('stop', '1')):
        assert result.code == 1
        assert str(home / 'xmanager.db') in result.message
    assert (home / 'xmanager.db').read_bytes() == damaged
    assert xmanager('doctor').code == 1


def test_a_database_of_a_newer_version_is_told_of_and_left_as_it_is(launch, xmanager, home):
    assert launch(ONE).code == 0
    with sqlite3.connect(home / 'xmanager.db') as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    for result in (launch(ONE), xmanager('list'), xmanager('show', '1')):
        assert result.code == 1
        assert 'newer' in result.message
    with sqlite3.connect(home / 'xmanager.db') as database:
        assert database.execute('SELECT count(*) FROM experiments').fetchone() == (1,)
    database.close()


def test_a_locked_database_is_waited_for_and_the_user_is_told(launch, start, desk, home):
    assert launch(ONE).code == 0
    desk.until_quiet()
    database = sqlite3.connect(home / 'xmanager.db', isolation_level=None)
    database.execute('BEGIN EXCLUSIVE')
    launcher = start(ONE)
    until(lambda: 'waiting for' in launcher.stderr)
    assert launcher.is_running
    database.execute('ROLLBACK')
    database.close()
    assert launcher.ended().code == 0
    assert desk.states(2) == ['completed']
