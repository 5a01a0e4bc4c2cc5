"""When auxiliary units have served their time."""

from __future__ import annotations

from xmanager.store import ACTIVE_STATES, AUXILIARY, WORK, Store, UnitRecord


def due_auxiliaries(store: Store, experiment_id: int, now: float) -> list[UnitRecord]:
    """Active auxiliary units whose delay after the end of the last work unit is over.

    To be asked only when no launcher can add further work units.
    """
    active = tuple(ACTIVE_STATES)
    auxiliaries = store.units(experiment_id, kind=AUXILIARY, states=active, with_tasks=False)
    if not auxiliaries or store.units(experiment_id, kind=WORK, states=active, limit=1):
        return []
    ends = [u.ended_at or 0.0 for u in store.units(experiment_id, kind=WORK, with_tasks=False)]
    last = max(ends, default=0.0)
    return [unit for unit in auxiliaries if now >= last + (unit.termination_delay or 0.0)]
