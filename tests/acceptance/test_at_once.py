"""Many at the same moment, in one home."""

import sys

from tests.acceptance.desk import PROGRAMS
from tests.acceptance.polling import until


def test_twenty_processes_make_their_first_experiment_in_one_new_home(desk):
    desk.write(
        'first.py',
        """
        import os, sys, time
        from xmanager import xm_local
        open(f'ready{sys.argv[1]}', 'w').close()
        while not os.path.exists('gate'):
            time.sleep(0.001)
        print(xm_local.create_experiment('first').experiment_id)
        """,
    )
    started = [
        desk.start_command([sys.executable, 'first.py', str(number)]) for number in range(20)
    ]
    until(lambda: len(list(desk.folder.glob('ready*'))) == 20)
    assert not desk.home.exists()
    desk.open_gate()
    results = [one.ended() for one in started]
    assert [result.stderr for result in results] == [''] * 20
    assert sorted(int(result.stdout) for result in results) == list(range(1, 21))
    assert len(desk.xmanager('list', '--limit', '100', '--json').json['experiments']) == 20


def test_launches_at_the_same_moment_are_experiments_of_their_own(start, desk):
    script = """
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('together') as experiment:
            for _ in range(5):
                experiment.add(shell(experiment, 'echo $XM_EXPERIMENT_ID'))
        print(experiment.experiment_id)
    """
    results = [one.ended() for one in [start(script) for _ in range(3)]]
    ids = []
    for result in results:
        assert result.code == 0, result.stderr
        *lines, number = result.stdout.splitlines()
        assert sorted(lines) == [f'[{unit} job] {number}' for unit in range(1, 6)]
        ids.append(number)
    assert sorted(ids) == ['1', '2', '3']


def test_two_launchers_add_to_one_experiment_at_once(start, launch, desk):
    launch('from xmanager import xm_local; xm_local.create_experiment("shared")')
    script = """
        from shell_jobs import shell, xm_local
        with xm_local.get_experiment(1) as experiment:
            for _ in range(20):
                experiment.add(shell(experiment, 'echo $XM_WORK_UNIT_ID >>journal'))
    """
    for launcher in [start(script), start(script)]:
        result = launcher.ended()
        assert result.code == 0, result.stderr
    assert sorted(int(line[0]) for line in desk.journal) == list(range(1, 41))
    assert desk.experiment()['counts'] == {'completed': 40}


def test_many_who_stop_and_wait_at_once_all_get_their_answer(start, desk):
    launcher = start("""
        from shell_jobs import shell, xm_local
        with xm_local.create_experiment('asked') as experiment:
            experiment.add(shell(experiment, 'echo up; exec sleep 600'))
    """)
    until(lambda: 'up' in launcher.stdout)
    waiting = [desk.start_command([PROGRAMS / 'xmanager', 'wait', '1']) for _ in range(2)]
    stopping = [desk.start_command([PROGRAMS / 'xmanager', 'stop', '1']) for _ in range(3)]
    assert [one.ended().code for one in stopping] == [0] * 3
    assert [one.ended().code for one in waiting] == [1] * 2
    assert launcher.ended().code == 1
    assert desk.states() == ['stopped']
