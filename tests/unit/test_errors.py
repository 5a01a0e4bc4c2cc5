"""The error tree."""

import pickle
from typing import Any

import pytest

from xmanager import errors, xm


@pytest.mark.parametrize(
    ('error', 'also'),
    [
        (errors.UsageError, Exception),
        (errors.PackagingError, Exception),
        (errors.ExecutorError, ValueError),
        (errors.InvalidTpuTopologyError, ValueError),
        (errors.StoreError, Exception),
        (errors.FencedError, errors.StoreError),
        (errors.NotFoundError, KeyError),
        (errors.ExperimentUnitError, RuntimeError),
        (errors.ExperimentUnitFailedError, errors.ExperimentUnitError),
        (errors.ExperimentUnitNotCompletedError, errors.ExperimentUnitError),
        (errors.ReloadError, errors.ExperimentUnitError),
    ],
)
def test_an_error_is_caught_by_the_root_and_by_the_built_in_scripts_know(error, also):
    with pytest.raises(also):
        raise error('sentence')
    assert issubclass(error, errors.XManagerError)
    assert str(error('sentence')) == 'sentence'
    assert error.__name__ in (errors.__doc__ or '')


def test_a_unit_error_carries_the_unit_and_survives_a_process_border():
    cause = ValueError('reason')
    assert xm.ExperimentUnitFailedError('m').work_unit is None
    unit: Any = 'unit'
    error = xm.ExperimentUnitFailedError(cause, work_unit=unit)
    assert (error.work_unit, error.args, str(error)) == (unit, (cause,), 'reason')
    assert pickle.loads(pickle.dumps(error)).work_unit == unit
