"""Every error that XManager raises on purpose, in one tree.

    XManagerError
    ├── UsageError                          the script asks for something that makes no sense
    ├── PackagingError                      an executable could not be built or fetched
    │   └── EngineError                     a container engine can't be used, or refused something
    ├── ExecutorError (ValueError)          a request that can never be met, or a missing secret
    ├── InvalidTpuTopologyError (ValueError)
    ├── StoreError                          the database could not be read or written
    │   └── FencedError                     somebody else supervises the experiment by now
    ├── UnreachableError                    an engine that runs units can't be asked now
    ├── LedgerError                         the ledger of this host could not be used
    ├── NotFoundError (KeyError)            nothing is known under that name or id
    └── ExperimentUnitError (RuntimeError)  a unit could not be created or did not end well
        ├── ExperimentUnitFailedError       one of its jobs failed
        ├── ExperimentUnitNotCompletedError it was stopped
        └── ReloadError                     it could not be picked up again

The built-in in brackets is a second base, for scripts that catch the built-in.
"""

from __future__ import annotations

from typing import Any


class XManagerError(Exception):
    """The root: catching it catches every error that is not a plain Python mistake."""


class UsageError(XManagerError):
    """The launch script asks for something that makes no sense; the message says what would."""


class PackagingError(XManagerError):
    """An executable could not be built or fetched."""


class EngineError(PackagingError):
    """No container engine can be used, or it refused what it was asked for.

    `status` is the HTTP status with which it refused; 0 if it did not answer.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ExecutorError(XManagerError, ValueError):
    """An executor's request can never be met here, or a secret it names is missing."""


class InvalidTpuTopologyError(XManagerError, ValueError):
    """A topology that is not of the form `4x4` or `2x2x2_twisted`."""


class StoreError(XManagerError):
    """The experiment database could not be read or written."""


class FencedError(StoreError):
    """A supervisor wanted to write, but another one has claimed the experiment since."""


class UnreachableError(XManagerError):
    """An engine that runs units can't be asked now. Nothing follows from it for the units."""


class LedgerError(XManagerError):
    """The ledger of this host, in which all experiments share out its resources, could not be used."""


class NotFoundError(XManagerError, KeyError):
    """No experiment, unit, job or resource is known under that name or id."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a sentence must not come out in quotes.
        return Exception.__str__(self)


class ExperimentUnitError(XManagerError, RuntimeError):
    """A unit could not be created or did not end well.

    `message` may be the exception that caused it. `work_unit` is None when there is none to show.
    """

    # An ExperimentUnit; untyped, for errors know of nothing above them.
    work_unit: Any

    def __init__(self, message: Any, *, work_unit: Any = None) -> None:
        super().__init__(message)
        self.work_unit = work_unit


class ExperimentUnitFailedError(ExperimentUnitError):
    """A job of the unit failed."""


class ExperimentUnitNotCompletedError(ExperimentUnitError):
    """The unit was stopped before it completed."""


class ReloadError(ExperimentUnitError):
    """A unit of an earlier run could not be picked up again."""
