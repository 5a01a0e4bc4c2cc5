"""What NVML tells of devices and of what runs on them, and what is told when it doesn't."""

import attrs
import pytest

from xmanager.backend import Unit
from xmanager.backends.local import gpus
from xmanager.backends.local.gpus import Gpu, GpuProcess, Gpus, Strangers
from xmanager.errors import ExecutorError
from xmanager.testing import nvml

GIB = 1024**3
DOUBLE = {'XM_NVML_MODULE': 'xmanager.testing.nvml'}
FREE = {'uuid': 'GPU-a', 'name': 'NVIDIA A100', 'memory': 80 * GIB}
BUSY = {'uuid': 'GPU-b', 'processes': [{'pid': 71, 'memory': GIB}, {'pid': 72, 'memory': None}]}
LOST = {'uuid': 'GPU-c', 'error': 'GPU_IS_LOST'}
SILENT = {'uuid': 'GPU-d', 'processes_error': 'NO_PERMISSION'}


@pytest.fixture
def play(tmp_path, monkeypatch):
    """What NVML tells from now on."""
    path = tmp_path / 'gpus.json'
    monkeypatch.setenv(nvml.FILE, str(path))

    def play(*devices, error=''):
        nvml.put(path, devices, error=error)

    return play


@pytest.fixture
def double(play):
    double = Gpus(DOUBLE)
    yield double
    double.close()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_devices_are_told_with_what_runs_on_them(play, double):
    play(FREE, BUSY)
    assert double.survey() == (
        Gpu(0, 'GPU-a', 'NVIDIA A100', 80 * GIB, processes=()),
        Gpu(1, 'GPU-b', 'NVIDIA GPU', None, (GpuProcess(71, GIB), GpuProcess(72, None))),
    )
    assert double.trouble is None


def test_memory_that_the_driver_does_not_know_is_none(play, double):
    play({'uuid': 'GPU-a', 'processes': [{'pid': 71, 'memory': 2**64 - 1}]})
    (gpu,) = double.survey()
    assert gpu.processes == (GpuProcess(71, None),)


def test_a_device_in_trouble_hides_no_other(play, double):
    play(LOST, FREE, SILENT)
    lost, free, silent = double.survey()
    assert (lost.usable, free.usable, silent.usable) == (False, True, True)
    assert lost.trouble.what == 'it is lost, the driver no longer reaches it'
    assert free.trouble is None
    assert (silent.uuid, silent.processes) == ('GPU-d', None)
    assert silent.trouble.what == 'this user is not allowed to ask'


def test_a_device_that_is_lost_while_its_processes_are_read_is_not_usable(play, double):
    play({**FREE, 'processes_error': 'GPU_IS_LOST'})
    (gpu,) = double.survey()
    assert (gpu.usable, gpu.name) == (False, 'NVIDIA A100')


@pytest.mark.parametrize(
    ('error', 'what'),
    [
        ('DRIVER_NOT_LOADED', "the driver's kernel module is not loaded"),
        ('LIBRARY_NOT_FOUND', "the driver's library libnvidia-ml.so.1 is not there"),
        ('LIB_RM_VERSION_MISMATCH', 'are of different versions'),
        ('NO_PERMISSION', 'this user is not allowed to ask'),
        ('UNKNOWN', 'NVML answers: NVML error 999'),
    ],
)
def test_why_nvml_does_not_answer_is_told(play, double, error, what):
    play(error=error)
    assert double.survey() is None
    assert what in double.trouble.what


def test_a_missing_library_is_told_with_how_to_install_it():
    missing = Gpus({'XM_NVML_MODULE': 'no.such.module'})
    assert missing.survey() is None
    assert missing.trouble == gpus.Trouble(
        'the Python package nvidia-ml-py is not installed', "pip install 'xmanager[gpu]'"
    )


def test_a_host_without_devices_is_no_trouble_and_loads_nothing(tmp_path):
    bare = Gpus({}, tmp_path)
    assert bare.survey() is None
    assert bare.trouble is None


def test_nvml_that_fails_later_is_trouble_until_it_answers_again(play, double):
    play(FREE)
    assert double.survey()
    play(error='UNKNOWN')
    assert double.survey() is None
    assert double.trouble
    play(FREE)
    assert double.survey()
    assert double.trouble is None


def test_a_session_is_begun_once_and_ended_once(play, monkeypatch):
    calls = []

    def noting(name):
        call = getattr(nvml, name)

        def note():
            calls.append(name)
            call()

        return note

    for name in ('nvmlInit', 'nvmlShutdown'):
        monkeypatch.setattr(nvml, name, noting(name))
    play(FREE)
    double = Gpus(DOUBLE)
    assert double.survey() == double.survey()
    double.close()
    double.close()
    assert calls == ['nvmlInit', 'nvmlShutdown']


def test_devices_on_which_anything_computes_are_strange_and_so_are_lost_ones(play):
    play(FREE, BUSY, LOST, SILENT, BUSY)
    strangers = Strangers(DOUBLE, ['0', '1', '2', '3', 'MIG-7'])
    assert strangers.look() == {'1', '2'}
    strangers.close()


def test_what_can_not_be_seen_is_nobody(play):
    play(error='DRIVER_NOT_LOADED')
    assert Strangers(DOUBLE, ['0', '1']).look() == frozenset()
    assert Strangers({'XM_NVML_MODULE': 'no.such.module'}, ['0']).look() == frozenset()


@pytest.mark.parametrize('text', ['1', 'true', 'True', 'on'])
def test_others_are_ignored_on_request(play, text):
    play(BUSY)
    strangers = Strangers({**DOUBLE, 'XM_LOCAL_GPUS_IGNORE_OTHERS': text}, ['0'])
    assert strangers.look() == frozenset()


def test_a_setting_that_can_not_be_read_is_explained():
    with pytest.raises(
        ExecutorError, match=r"^XM_LOCAL_GPUS_IGNORE_OTHERS='perhaps': expected true"
    ):
        Strangers({'XM_LOCAL_GPUS_IGNORE_OTHERS': 'perhaps'}, ['0'])


def test_the_back_end_tells_of_strangers_by_resource(world, play):
    backend = world.backend(DOUBLE)
    play(FREE, BUSY)
    assert backend.strangers() == {'local_gpu': {'1'}}
    play(FREE, FREE)
    assert backend.strangers() == {}
    backend.close()


def test_a_job_with_a_share_sees_its_one_device(world):
    backend = world.backend({})
    unit: Unit = world.unit(('true',), ('true',), requirements={'local_gpu': 0.5})
    grant = {'job0': {'local_gpu': ('1',)}, 'job1': {'local_gpu': ('1',)}}
    launch = backend.render(unit, grant)
    assert [c.marks['CUDA_VISIBLE_DEVICES'] for c in launch.commands] == ['1', '1']


def test_surveys_can_be_written_as_json(play, double):
    play(BUSY)
    (gpu,) = double.survey()
    assert attrs.asdict(gpu)['processes'][0] == {'pid': 71, 'memory': GIB}
