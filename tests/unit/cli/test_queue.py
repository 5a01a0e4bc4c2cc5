import json
import os
import time
from pathlib import Path

import attrs
import jsonschema
import pytest

from xmanager.backend import Capacity
from xmanager.ledger import Entry, Hold, Ledger, Want, place
from xmanager.store import Change
from xmanager.store.presence import Presence

SCHEMA = Path(__file__).parents[3] / 'docs' / 'reference' / 'xmanager-1.schema.json'
HOST = Capacity({'cpu': 4.0, 'local_gpu': 2.0}, {'local_gpu': ('0', '1')})
ONE_GPU = {'train': {'local_gpu': 1.0}}


@pytest.fixture
def supervise(lab, request):
    """`supervise(1, holds, wants)` keeps account for a living supervisor of that experiment."""
    here = place.prepare(place.locate(os.environ))

    def write(experiment_id, holds=(), wants=(), *, home='', user='ada', strangers=()):
        owner = f'{home.strip("/") or lab.store.home_id}-{experiment_id}'
        entry = Entry(
            owner=owner,
            user=user,
            home=home or str(lab.home.path),
            experiment_id=experiment_id,
            pid=1,
            wake_pipe='',
            capacity=HOST,
        )
        ledger = Ledger(here, entry)
        request.addfinalizer(ledger.close)
        wants = [attrs.evolve(want, owner=owner) for want in wants]
        with ledger.turn():
            ledger.write(holds, wants, {'local_gpu': tuple(strangers)} if strangers else {})

    return write


def hold(*devices):
    demand = {'train': {'cpu': 1.0, 'local_gpu': float(len(devices))}}
    return Hold('key', '1', demand, {'train': {'local_gpu': devices}}, time.time())


def want(unit, **facts):
    return Want('', unit.id, unit.label, unit.importance, unit.created_at, ONE_GPU, **facts)


def waiting_lines(result):
    assert (result.code, result.err) == (0, '')
    return [line.split(' since ')[0] for line in result.out.partition('\n\n')[0].splitlines()]


def test_when_nothing_waits_it_says_so_and_makes_nothing(run, home):
    assert run('queue') == (0, 'nothing waits\n', '')
    assert not home.path.exists()
    assert not place.locate(os.environ).exists()


def test_what_has_ended_or_runs_does_not_wait(run, lab):
    lab.experiment('completed', 'running', 'failed')
    assert run('queue').out == 'nothing waits\n'


def test_a_unit_that_waits_is_told_with_what_it_waits_for_and_who_has_it(run, lab, supervise):
    lab.experiment('running', 'queued')
    [_, unit] = lab.store.units(1)
    supervise(1, [hold('0')], [want(unit)], strangers=['1'])
    out = run('queue').out
    assert out.startswith('experiment 1 unit 2 waits since 2026-02-02 ')
    assert ' for 1 GPU; none is free, other units of it hold 1 since ' in out
    assert ', a process that is none of ours uses GPU 1\n' in out
    _, _, header, held, strangers = out.splitlines()
    assert header.split() == ['HOLDER', 'UNITS', 'HOLDS', 'SINCE', 'ENDS', 'BY']
    assert held.startswith('experiment 1      1  GPU 0, 1 CPU')
    assert strangers.split() == ['others', 'GPU', '1']


def test_ten_thousand_units_are_one_line_with_their_number(run, lab, supervise):
    record = lab.experiment('queued')
    lab.add(record.id, *['queued'] * 9_999)
    first = lab.store.units(1, limit=64)
    supervise(1, [], [want(unit) for unit in first])
    supervise(2, [hold('0', '1')], home='/other')
    [line] = run('queue').out.partition('\n\n')[0].splitlines()
    assert ' for 1 GPU, with 9,999 more behind it; none is free, ' in line


def test_units_that_ask_for_different_things_are_told_one_by_one_up_to_a_limit(run, lab, supervise):
    lab.experiment(*['queued'] * 30)
    units = lab.store.units(1)
    supervise(1, [hold('0', '1')], [want(u, limit=float(u.number)) for u in units])
    lines = run('queue').out.partition('\n\n')[0].splitlines()
    assert len(lines) == 10
    assert lines[0].startswith('experiment 1 unit 1 waits ')
    assert ', with 20 more behind it; ' in lines[-1]


def test_a_unit_waits_since_it_was_queued_again_but_keeps_its_turn(run, lab, supervise):
    lab.experiment('failed', 'queued')
    first, second = lab.store.units(1)
    lab.now += 86400
    lab.move(first, 'restarting')
    lab.move(first, 'queued')
    supervise(1, [hold('0', '1')], [want(first), want(second, limit=9.0)])
    one, two = run('queue', '--json').json['waiting']
    assert (one['unit'], two['unit']) == ('1', '2')
    assert (one['since'][:10], two['since'][:10]) == ('2026-02-03', '2026-02-02')


def test_those_of_others_are_told_with_their_user_and_home(run, lab, supervise):
    lab.experiment('queued')
    [unit] = lab.store.units(1)
    supervise(1, [], [want(unit)])
    later = attrs.evolve(want(unit), since=unit.created_at + 60, count=3)
    supervise(7, [hold('0', '1')], [later], home='/bo', user='bo')
    one, two = run('queue').out.partition('\n\n')[0].splitlines()
    assert "; none is free, user bo's experiment 7 holds 2 since " in one
    assert two.startswith("user bo's experiment 7 unit 1 and 2 more like it wait since ")
    assert run('queue', 1).out.startswith(one + '\n\n')
    assert run('queue', '--json').json['holding'][0]['user'] == 'bo'


def test_a_paused_experiment_is_told_since_when_and_how_it_goes_on(run, lab, supervise):
    lab.experiment('queued', 'queued')
    lab.store.set_paused(1, True, actor='test')
    supervise(1)
    out = run('queue').out
    assert ', with 1 more behind it; paused since 2026-02-02 ' in out
    assert out.endswith(': xmanager resume 1\n')


def test_an_experiment_whose_supervisor_is_dead_is_told_what_to_do(run, lab):
    lab.experiment('running', 'queued', 'queued', 'starting')
    [line] = run('queue').lines
    assert line.startswith('experiment 1 unit ')
    assert line.endswith(', with 2 more behind it; no supervisor is alive: xmanager supervise 1')


def test_a_unit_that_is_tried_again_later_says_when(run, lab, supervise):
    lab.experiment('running', 'running')
    for unit, due in zip(lab.store.units(1), (400, 40.2), strict=True):
        change = Change(unit.id, 'restarting', not_before=time.time() + due)
        lab.store.move([change], actor='supervisor')
    supervise(1)
    assert run('queue').out == 'experiment 1 unit 2 tries again in 40 s, with 1 more behind it\n'


def test_a_unit_that_its_supervisor_has_not_seen_yet_says_so(run, lab, supervise):
    lab.experiment('queued', 'starting')
    supervise(1)
    assert run('queue').lines == [
        'experiment 1 unit 2 is starting',
        waiting_start(lab) + '; its supervisor has not looked at it yet',
    ]


def test_an_experiment_of_another_host_is_not_taken_for_abandoned(run, lab):
    record = lab.experiment('queued')
    record.folder.rmdir()  # It is another home's, which shares the database.
    [line] = run('queue').lines
    assert line.endswith('; it was launched on gpu-box: ask there')


def waiting_start(lab):
    unit = lab.store.units(1)[0]
    since = time.strftime('%Y-%m-%d %H:%M', time.localtime(unit.queued_at or unit.created_at))
    return f'experiment 1 unit 1 waits since {since}'


def test_only_the_experiments_that_are_named_are_told(run, lab):
    lab.experiment('queued')
    lab.experiment('queued')
    lab.experiment('completed')
    assert [line[:12] for line in run('queue').lines] == ['experiment 1', 'experiment 2']
    assert [line[:12] for line in run('queue', 2, 2).lines] == ['experiment 2']
    assert run('queue', 3).out == 'nothing waits\n'
    code, out, err = run('queue', 4)
    assert (code, out) == (1, '')
    assert 'there is no experiment 4' in err
    assert 'queue takes whole experiments' in run('queue', '1.1').err


def test_what_is_printed_as_json_follows_the_published_schema(run, lab, supervise):
    lab.experiment('running', 'queued')
    [_, unit] = lab.store.units(1)
    supervise(1, [hold('0')], [want(unit)])
    gang = attrs.evolve(want(unit), id=7, demand={'a': {'local_gpu': 2.0}}, importance=1)
    supervise(7, [], [gang], home='/bo', user='bo')
    document = run('queue', '--json').json
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    reasons = [(one['user'], one['reason']) for one in document['waiting']]
    assert reasons == [('bo', 'resources'), ('ada', 'turn')]
    assert document['waiting'][0]['lacks'][0]['asked'] == [2.0]
    assert document['waiting'][1]['ahead']['user'] == 'bo'
    assert document['holding'][0]['devices'] == {'train': {'local_gpu': ['0']}}


def test_a_ledger_that_cannot_be_read_is_told_and_the_rest_is_shown(
    run, lab, tmp_path, monkeypatch
):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XM_LOCAL_LEDGER', str(tmp_path / 'file' / 'ledger'))
    lab.experiment('queued')
    result = run('queue')
    assert result.err == (
        f'xmanager: the ledger of this host, {tmp_path}/file/ledger, can not be read: Not a directory\n'
    )
    assert result.out.startswith('experiment 1 unit 1 waits')


# Units of engines that queue by themselves.


def test_units_that_wait_in_slurm_are_told_reason_by_reason(run, lab, supervise):
    lab.experiment()
    lab.submitted(1, *['waits: Priority'] * 950, *['waits: Resources'] * 2, '')
    supervise(1)
    assert waiting_lines(run('queue')) == [
        'experiment 1 unit 1 and 949 more like it wait in Slurm',
        'experiment 1 unit 951 and 1 more like it wait in Slurm',
        'experiment 1 unit 953 waits in Slurm',
    ]
    assert [line.rpartition(': ')[2] for line in run('queue').lines[:2]] == [
        'Priority',
        'Resources',
    ]
    first, *_, last = run('queue', '--json').json['waiting']
    assert (first['reason'], first['engine'], first['engine_reason'], first['count']) == (
        'engine',
        'slurm',
        'Priority',
        950,
    )
    assert (last['engine_reason'], last['sentence'][-1]) == ('', last['since'][15])


def test_units_that_slurm_does_not_take_are_told_together(run, lab, supervise):
    lab.experiment()
    units = lab.submitted(1, *[''] * 3)
    for unit in units:
        lab.store.move([Change(unit.id, 'queued', reference='')], actor='supervisor')
    refused = Change(units[1].id, 'queued', message='waits: slurmctld does not answer')
    lab.store.move([refused], actor='supervisor')
    supervise(1)
    [line] = run('queue').lines
    assert line.startswith('experiment 1 unit 1 and 2 more like it wait since ')
    assert line.endswith(' to be submitted to Slurm: slurmctld does not answer')
    [told] = run('queue', '--json').json['waiting']
    assert (told['reason'], told['engine_reason']) == ('handover', 'slurmctld does not answer')
    lab.store.set_paused(1, True, actor='test')
    [line] = run('queue').lines
    assert ', with 2 more behind it; paused since ' in line


def test_local_units_and_those_in_slurm_are_told_apart(run, lab, supervise):
    lab.experiment('queued', 'queued', 'running')
    lab.submitted(1, 'waits: Priority', 'waits: Priority')
    units = lab.store.units(1, states=('queued',))
    supervise(1, [hold('0', '1')], [want(unit) for unit in units[:1]])
    local, slurm = run('queue').out.partition('\n\n')[0].splitlines()
    assert local.startswith('experiment 1 unit 1 waits since ')
    assert ' for 1 GPU, with 1 more behind it; ' in local
    assert slurm.startswith('experiment 1 unit 4 and 1 more like it wait in Slurm since ')


def test_what_waits_in_slurm_without_a_supervisor_is_told_to_be_unsupervised(run, lab):
    lab.experiment('queued')
    lab.submitted(1, 'waits: Priority')
    slurm, local = run('queue').lines
    assert slurm.endswith(': Priority; no supervisor is alive to tell more: xmanager supervise 1')
    assert local.endswith('; no supervisor is alive: xmanager supervise 1')


def test_of_many_reasons_the_commonest_are_told(run, lab, supervise):
    lab.experiment()
    lab.submitted(1, 'waits: Priority', *[f'waits: Dependency {n}' for n in range(12)])
    supervise(1)
    lines = run('queue').lines
    assert len(lines) == 10
    assert ', with 3 more behind it: ' in lines[-1]


def test_a_supervisor_that_comes_on_demand_is_not_missed(run, lab, monkeypatch):
    monkeypatch.setattr('xmanager.launch.queue.look_after', lambda store, records: False)
    record = lab.experiment()
    lab.submitted(1, 'waits: Priority')
    record.folder.mkdir(parents=True, exist_ok=True)
    Presence(record.folder).let_come_on_demand(True)
    [line] = run('queue').lines
    assert line.endswith(': Priority')


def test_the_supervisor_of_another_host_is_not_missed(run, lab):
    lab.experiment()
    lab.submitted(1, 'waits: Priority')
    lab.store.claim(1, 'abc login-2 /home/ada/.xmanager', 1e9)
    [line] = run('queue').lines
    assert line.endswith(': Priority')
    assert run('show', 1).err == ''
