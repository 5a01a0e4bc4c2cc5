"""An experiment that launches nothing and remembers what it was given: for tests of launch scripts.

with xm_mock.MockExperiment() as experiment:
    experiment.add(xm.Job(xm_mock.MockExecutable(), xm_mock.MockExecutor(), args={'lr': 0.1}))
assert experiment.launched_jobs_args == [{'args': {'lr': 0.1}}]
"""

from __future__ import annotations

from xmanager.xm_mock.context import MockContextAnnotations, MockMetadataContext
from xmanager.xm_mock.executables import MockConstraint, MockExecutable, MockExecutor
from xmanager.xm_mock.experiment import MockExperiment
from xmanager.xm_mock.units import (
    MockAuxiliaryUnit,
    MockExperimentUnit,
    MockStatus,
    MockWorkUnit,
)

__all__ = [
    'MockAuxiliaryUnit',
    'MockConstraint',
    'MockContextAnnotations',
    'MockExecutable',
    'MockExecutor',
    'MockExperiment',
    'MockExperimentUnit',
    'MockMetadataContext',
    'MockStatus',
    'MockWorkUnit',
]
