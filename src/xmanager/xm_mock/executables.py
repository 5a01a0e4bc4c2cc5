"""What jobs under test are made of: an executable, an executor and a constraint without any effect."""

from __future__ import annotations

import itertools
from typing import ClassVar

import attrs

from xmanager.xm.executables import Executable, Executor, ExecutorSpec
from xmanager.xm.jobs import Constraint

_numbers = itertools.count()


@attrs.define(slots=False)
class MockExecutable(Executable):
    """An executable with a name of its own: `'0'`, `'1'`, …"""

    name: str = attrs.field(init=False, factory=lambda: str(next(_numbers)))


class MockExecutor(Executor):
    """An executor for jobs that never run."""

    Spec: ClassVar[type[ExecutorSpec]] = ExecutorSpec


@attrs.define(slots=False)
class MockConstraint(Constraint):
    """A constraint that can be told from others by its `id`."""

    id: str
