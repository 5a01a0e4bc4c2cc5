"""A unit that its back end has: what the supervisor knows of it while it runs."""

from __future__ import annotations

import attrs

from xmanager.backend import Backend, Grant, Unit
from xmanager.store import UnitRecord
from xmanager.supervise.admission import Demand, Pool


@attrs.define
class Engine:
    """A back end in use, with what is free of it."""

    name: str
    backend: Backend
    pool: Pool


@attrs.define
class Running:
    """A submitted unit.

    `stopping` is the (state, message) that it shall end in once it was asked to stop; `culprit` is the task that
    went wrong first, for which its siblings were stopped.
    """

    record: UnitRecord
    unit: Unit
    reference: str
    engine: Engine
    demand: Demand
    grant: Grant
    stopping: tuple[str, str] | None = None
    culprit: str = ''

    def release(self) -> None:
        self.engine.pool.give_back(self.demand, self.grant)
