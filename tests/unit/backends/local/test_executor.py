"""What users write for this machine: values with checks, and the options that reach the back end."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from xmanager.backends.local.docker_options import DockerOptions
from xmanager.backends.local.executor import Local, LocalSpec
from xmanager.errors import ExecutorError
from xmanager.xm.resources import JobRequirements


def test_the_defaults_are_those_of_the_original():
    local = Local()
    assert local.requirements == JobRequirements()
    assert (local.docker_options, local.experimental_stream_output) == (None, True)
    assert Local.Spec is LocalSpec
    assert isinstance(Local.Spec(), LocalSpec)
    assert Local.backend == 'local'


def test_the_original_takes_its_settings_by_position():
    options = DockerOptions({8080: 80}, {'/data': '/mnt'}, False, True)
    local = Local(JobRequirements(), options, False)
    assert local.docker_options is options
    assert options.ports == {8080: 80}
    assert local.experimental_stream_output is False


def test_timeout_grace_and_cwd_may_be_given_by_position_too():
    local = Local(JobRequirements(), None, True, 5, 6, '/tmp')
    assert (local.timeout, local.grace, local.cwd) == (5, 6, '/tmp')


def test_options_are_json_values_in_seconds():
    options = Local(timeout=timedelta(minutes=2), grace=3).options()
    assert options.items() >= {'timeout': 120.0, 'grace': 3.0, 'stream_output': True}.items()
    assert json.loads(json.dumps(options)) == options
    left_out = {'timeout': None, 'grace': None, 'stream_output': True}
    assert Local().options().items() >= left_out.items()


def test_no_grace_time_at_all_is_allowed():
    assert Local(grace=0).options()['grace'] == 0.0


@pytest.mark.parametrize(
    ('settings', 'error', 'message'),
    [
        ({'timeout': -1}, ValueError, r'Local\(timeout=-1\): expected a positive'),
        ({'timeout': 0}, ValueError, r'Local\(timeout=0\): expected a positive'),
        ({'timeout': timedelta(days=-1)}, ValueError, 'expected a positive'),
        ({'timeout': float('nan')}, ValueError, 'expected a positive, finite'),
        (
            {'timeout': '5'},
            TypeError,
            r"Local\(timeout='5'\): expected seconds, a timedelta or None",
        ),
        ({'grace': True}, TypeError, 'expected seconds'),
        ({'grace': -0.1}, ValueError, 'expected a non-negative'),
        ({'grace': float('inf')}, ValueError, 'finite'),
        ({'cwd': 5}, TypeError, r'Local\(cwd=5\): expected a path'),
        ({'requirements': {'cpu': 1}}, TypeError, r'expected xm\.JobRequirements'),
    ],
)
def test_a_bad_setting_is_explained(settings, error, message):
    with pytest.raises(error, match=message):
        Local(**settings)


def test_an_assigned_setting_is_checked_too():
    local = Local(cwd=Path('/tmp'))
    with pytest.raises(ValueError, match='timeout'):
        local.timeout = -5


def test_copies_of_a_job_are_refused():
    with pytest.raises(ExecutorError) as raised:
        Local(requirements=JobRequirements(replicas=3))
    assert str(raised.value) == (
        'Local(requirements=xm.JobRequirements(replicas=3)): one machine runs one copy of a job; '
        'add it 3 times or use a JobGroup.'
    )


def test_copies_that_are_asked_for_later_are_refused_too():
    local = Local()
    local.requirements.replicas = 2
    with pytest.raises(ExecutorError, match='replicas=2'):
        local.options()
