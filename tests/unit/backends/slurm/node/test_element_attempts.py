"""An element runs once for each attempt, whatever Slurm begins anew or is given twice; and it costs little."""

import os
import signal
from pathlib import Path

import pytest
from tests.unit.backends.slurm.node.started import SHELLS, Started, write
from tests.unit.backends.slurm.steps import a_request

from xmanager.backends.slurm.arrays import Bounds, batches
from xmanager.backends.slurm.node import script

# Attempts.


def test_a_requeued_element_goes_on_in_its_folder_as_the_next_attempt(start):
    words = ('/bin/sh', '-c', 'echo attempt $XM_ATTEMPT; [ $XM_ATTEMPT = 4 ] || exec sleep 1000')
    first = start(*words, attempt=3)
    first.wait_for_log(b'attempt')
    first.signal(signal.SIGTERM)
    assert first.wait().terminated
    second = start(*words, attempt=3, environ={'SLURM_RESTART_COUNT': '1'})
    assert second.wait().exit_code == 0
    assert second.log == b'attempt 4\n'
    assert (second.folder / 'output.3.log').read_bytes() == b'attempt 3\n'


def test_what_ended_by_itself_is_not_run_again(start):
    start('/bin/echo', 'ran').wait()
    again = start('/bin/echo', 'ran', environ={'SLURM_RESTART_COUNT': '1'})
    assert again.wait().refused == 'has ended already'
    assert again.log == b'ran\n'


def test_what_a_node_took_with_it_is_run_again(start):
    first = start('/bin/sh', '-c', 'echo up; exec sleep 1000')
    first.wait_for_log(b'up')
    first.kill()
    again = start('/bin/echo', 'ran', environ={'SLURM_RESTART_COUNT': '1'})
    assert again.wait().exit_code == 0
    assert again.log == b'ran\n'
    assert (again.folder / 'output.1.log').read_bytes() == b'up\n'


def test_an_end_for_which_the_disk_has_no_room_counts_as_none(start, tmp_path):
    ends = tmp_path / 'experiments' / '1' / 'slurm' / 'b1' / 'ends'
    ends.mkdir(parents=True)
    (ends / '.0.0.0').symlink_to('/dev/full')
    first = start('/bin/sh', '-c', 'exit 7')
    first.process.communicate(timeout=20)
    assert first.process.returncode == 7
    assert '0.0.0' not in os.listdir(ends)
    again = start('/bin/echo', 'ran', environ={'SLURM_RESTART_COUNT': '1'})
    assert again.wait().exit_code == 0


def test_a_unit_that_is_in_two_batches_runs_once(start):
    start('/bin/echo', 'first').wait()
    second = start('/bin/echo', 'second', batch_id='b2')
    assert second.wait().refused == 'superseded by batch b1'
    assert second.log == b'first\n'
    assert second.begun() is None


def test_the_next_attempt_is_another_batchs(start):
    start('/bin/echo', 'first').wait()
    second = start('/bin/echo', 'second', batch_id='b2', attempt=5)
    assert second.wait().exit_code == 0
    assert (second.folder / 'output.1.log').read_bytes() == b'first\n'
    assert second.log == b'second\n'


def test_the_same_element_is_never_run_twice_at_once(start):
    first = start('/bin/sh', '-c', 'echo up; exec sleep 1000')
    first.wait_for_log(b'up')
    second = start('/bin/sh', '-c', 'echo up; exec sleep 1000')
    second.process.communicate(timeout=20)
    assert second.process.returncode == 126
    assert first.log == b'up\n'


# Arrays.


def test_each_element_of_an_array_runs_its_own_words(shell, tmp_path):
    requests = [
        a_request(root=str(tmp_path), number=n, argv=('/bin/echo', f'I am {n}'))
        for n in range(1, 251)
    ]
    [batch] = batches(requests, Bounds(), lambda: 'b1')
    write(batch)
    for element in (0, 1, 99, 100, 249):
        started = Started(shell, batch, {}, element)
        assert started.wait().exit_code == 0
        assert started.log.decode() == f'I am {element + 1}\n'


# What it costs.


@pytest.mark.parametrize('shell', [one for one in SHELLS if one[0] != 'bash'], ids=' '.join)
def test_it_costs_less_than_two_megabytes_beside_a_program(start):
    started = start('/bin/sh', '-c', 'echo ready; exec sleep 1000')
    started.wait_for_log(b'ready')
    rollup = Path(f'/proc/{started.process.pid}/smaps_rollup').read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith('Pss:'))
    assert pss < 2048


def test_its_text_has_no_comments():
    assert not [line for line in script.element().splitlines() if line.lstrip().startswith(b'#')]
