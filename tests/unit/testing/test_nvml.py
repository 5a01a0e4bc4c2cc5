"""The stand-in for NVML: what a file says is what a caller of pynvml is told."""

import pytest

from xmanager.testing import nvml


@pytest.fixture
def path(tmp_path, monkeypatch):
    path = tmp_path / 'gpus.json'
    monkeypatch.setenv(nvml.FILE, str(path))
    return path


@pytest.fixture
def session(path):
    nvml.put(path)
    nvml.nvmlInit()
    yield path
    nvml.put(path)
    nvml.nvmlShutdown()


def error_of(call, *arguments):
    with pytest.raises(nvml.NVMLError) as raised:
        call(*arguments)
    return raised.value.value


def test_each_question_reads_the_file_anew(session):
    assert nvml.nvmlDeviceGetCount() == 0
    nvml.put(session, [{'uuid': 'GPU-a', 'memory': 8, 'processes': [{'pid': 7, 'memory': 1}]}])
    assert nvml.nvmlDeviceGetCount() == 1
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    assert nvml.nvmlDeviceGetUUID(handle) == 'GPU-a'
    assert nvml.nvmlDeviceGetMemoryInfo(handle).total == 8
    assert nvml.nvmlDeviceGetComputeRunningProcesses(handle) == [nvml.ProcessInfo(7, 1)]
    nvml.put(session, [{'uuid': 'GPU-b', 'name': 'H100'}])
    assert nvml.nvmlDeviceGetName(handle) == 'H100'
    assert nvml.nvmlDeviceGetComputeRunningProcesses(handle) == []


def test_errors_are_raised_where_they_stand_in_the_file(session):
    nvml.put(
        session,
        [{'uuid': 'a', 'error': 'GPU_IS_LOST'}, {'uuid': 'b', 'processes_error': 'NO_PERMISSION'}],
    )
    assert error_of(nvml.nvmlDeviceGetHandleByIndex, 0) == nvml.NVML_ERROR_GPU_IS_LOST
    handle = nvml.nvmlDeviceGetHandleByIndex(1)
    ask = nvml.nvmlDeviceGetComputeRunningProcesses
    assert error_of(ask, handle) == nvml.NVML_ERROR_NO_PERMISSION
    assert error_of(nvml.nvmlDeviceGetMemoryInfo, handle) == nvml.NVML_ERROR_NOT_SUPPORTED
    assert error_of(nvml.nvmlDeviceGetHandleByIndex, 2) == nvml.NVML_ERROR_INVALID_ARGUMENT
    nvml.put(session, error='UNKNOWN')
    assert error_of(nvml.nvmlDeviceGetCount) == nvml.NVML_ERROR_UNKNOWN


def test_without_a_file_there_is_no_library(path):
    assert error_of(nvml.nvmlInit) == nvml.NVML_ERROR_LIBRARY_NOT_FOUND


def test_questions_outside_a_session_are_errors(path):
    nvml.put(path, [{'uuid': 'GPU-a'}])
    assert error_of(nvml.nvmlDeviceGetCount) == nvml.NVML_ERROR_UNINITIALIZED
    assert error_of(nvml.nvmlShutdown) == nvml.NVML_ERROR_UNINITIALIZED
