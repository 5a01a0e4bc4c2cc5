import json
import math
from pathlib import Path

import jsonschema
import pytest

from xmanager.cli import views
from xmanager.store import AUXILIARY

REFERENCE = Path(__file__).parents[3] / 'docs' / 'reference'
SCHEMA = json.loads((REFERENCE / 'xmanager-1.schema.json').read_text())


def strict(schema):
    """The schema, made to refuse every field that it doesn't document."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if 'properties' in closed or 'allOf' in closed:
        closed['unevaluatedProperties'] = False
    return closed


@pytest.fixture
def valid():
    # What `allOf` takes in must stay open: the object around it is the one that is closed.
    schema = strict(SCHEMA)
    for name in ('experiment', 'unit'):
        del schema['$defs'][name]['unevaluatedProperties']
    lists = (
        schema['oneOf'][0]['properties']['experiments'],
        schema['oneOf'][1]['properties']['experiment'],
    )
    lists[0]['items']['unevaluatedProperties'] = False
    lists[1]['properties']['units']['items']['unevaluatedProperties'] = False
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def check(document):
        kinds = ('experiments', 'experiment', 'unit', 'checks', 'waiting', 'executables')
        for branch, kind in enumerate(kinds):
            if kind in document:
                is_planned = 'planned_experiments' in document
                part = {**schema['oneOf'][branch + is_planned], '$defs': schema['$defs']}
                jsonschema.Draft202012Validator(part).validate(document)
        validator.validate(document)
        return document

    return check


@pytest.fixture
def populated(lab):
    """One of everything."""
    record = lab.experiment(
        'queued', 'starting', 'running', 'completed', 'failed', 'stopped', 'lost',
        script='launch.py', argv=('--api_key', 'hush', '--lr=1'), cwd='/code', python='/usr/bin/python3',
    )  # fmt: skip
    job = lab.task(
        'train',
        'train.py',
        '--password=hush',
        env={'MY_KEY': 'hush', 'A': '1'},
        secrets={'HF_TOKEN': 'HF'},
        requirements={'cpu': 0.5},
        options={'grace': 10, 'nested': {'token': 'hush'}},
        executable={'kind': 'binary', 'path': 'train.py'},
    )
    (unit,) = lab.add(
        record.id, 'running', tasks=[job], args={'args': {'lr': math.inf, 'api_key': 'hush'}}
    )
    lab.move(unit, 'failed', 'exit code 1', exit_code=1)
    lab.add(record.id, 'running', kind=AUXILIARY, tasks=[lab.task('board'), lab.task('other')])
    lab.experiment('completed', title='')
    lab.experiment()
    return lab


@pytest.mark.parametrize(
    'arguments', [['list'], ['list', '--limit', '1'], ['show', '1'], ['show', '2'], ['show', '3'],
                  *(['show', f'1.{label}'] for label in (1, 2, 3, 4, 5, 6, 7, 8, 'a1')), ['queue'], ['doctor']]
)  # fmt: skip
def test_what_is_printed_follows_the_published_schema(run, populated, valid, arguments):
    document = valid(run(*arguments, '--json').json)
    assert document['schema'] == 'xmanager/1'
    assert 'hush' not in json.dumps(document)


@pytest.mark.parametrize('flags', [[], ['--dry-run']])
def test_what_is_packaged_or_planned_follows_the_published_schema(run, valid, tmp_path, flags):
    script = tmp_path / 'launcher.py'
    script.write_text(
        'from xmanager import xm, xm_local\n'
        "with xm_local.create_experiment('x') as experiment:\n"
        "    [sh] = experiment.package([xm.binary(xm_local.Local.Spec(), '/bin/sh')])\n"
        "    job = xm.Job(sh, xm_local.Local(), env_vars={'MY_TOKEN': 'hush'})\n"
        "    experiment.add(job, args={'args': {'api_key': 'hush'}})\n"
    )
    document = valid(run('package', script, '--json', *flags).json)
    assert 'hush' not in json.dumps(document)
    assert ('planned_experiments' in document) == bool(flags)


@pytest.mark.parametrize('where', ['4', '4.1'])
def test_what_is_delivered_follows_the_published_schema(run, populated, valid, tmp_path, where):
    record = populated.experiment('failed', cwd=str(tmp_path), argv=('--api_key=hush',))
    populated.store.set_paused(record.id, True, actor='test')
    assert run('notify', where, '--to', "sh -c 'cat >got'").code == 0
    notice = valid(json.loads((tmp_path / 'got').read_text()))
    assert list(notice)[:3] == ['schema', 'event', 'text']
    assert 'hush' not in json.dumps(notice)
    with pytest.raises(jsonschema.ValidationError):
        valid({**notice, 'event': 'rain'})


def test_the_schema_refuses_what_is_missing_unknown_or_of_another_type(run, populated, valid):
    document = run('show', '1.8', '--json').json
    for change in (
        {'state': 'sad'},
        {'attempt': '1'},
        {'surprise': 1},
        {'created_at': '2026-01-01'},
    ):
        with pytest.raises(jsonschema.ValidationError):
            valid({**document, 'unit': {**document['unit'], **change}})
    del document['unit']['history']
    with pytest.raises(jsonschema.ValidationError):
        valid(document)


def test_every_field_is_documented():
    text = (REFERENCE / 'json.md').read_text()
    for name, definition in SCHEMA['$defs'].items():
        title = 'Move' if name == 'event' else name.replace('_', ' ').capitalize()
        section = text.split(f'\n## {title}\n')[1].split('\n## ')[0]
        documented = [line.split('`')[1] for line in section.splitlines() if line.startswith('| `')]
        assert documented == list(definition['properties'])


def test_times_and_durations_are_told_in_utc_and_in_seconds(run, lab):
    lab.experiment('completed')
    (unit,) = run('show', 1, '--json').json['experiment']['units']
    assert unit['started_at'] == '2026-02-02T02:40:02.000Z'
    assert unit['ended_at'] == '2026-02-02T02:40:03.000Z'
    assert unit['duration_seconds'] == 1.0


def test_secrets_are_shown_by_name_and_what_looks_like_one_not_at_all(run, populated):
    unit = run('show', '1.8', '--json').json['unit']
    (job,) = unit['jobs']
    assert job['env'] == {'MY_KEY': '***', 'A': '1', 'HF_TOKEN': '<secret HF>'}
    assert job['argv'] == ['train.py', '--password=***']
    assert job['options']['nested'] == {'token': '***'}
    assert unit['args']['args']['api_key'] == '***'
    assert run('show', 1, '--json').json['experiment']['argv'] == ['--api_key', '***', '--lr=1']


def test_numbers_that_json_does_not_know_are_text():
    assert views.plain({'a': [math.inf, math.nan, 1.5, None, True], 2: {3}}) == {
        'a': ['inf', 'nan', 1.5, None, True],
        '2': '{3}',
    }


def test_json_for_a_program_is_one_line(run, populated):
    assert run('show', 1, '--json').out.count('\n') == 1
