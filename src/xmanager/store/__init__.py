"""The records of a home: experiments, units, tasks, events and requests. Nobody else talks to the database."""

from xmanager.store.home import Home
from xmanager.store.leases import Lease
from xmanager.store.sqlite import Patience
from xmanager.store.states import LEGAL_MOVES
from xmanager.store.store import Store
from xmanager.store.values import (
    ACTIVE_STATES,
    AUXILIARY,
    COMPLETED,
    CREATING,
    FAILED,
    FINAL_STATES,
    LOST,
    QUEUED,
    RESTARTING,
    RUNNING,
    STARTING,
    STATES,
    STOPPED,
    WORK,
    Change,
    Event,
    ExperimentRecord,
    NewExperiment,
    NewUnit,
    Request,
    Standing,
    TaskRecord,
    UnitRecord,
)
from xmanager.store.waits import Wait

__all__ = [
    'ACTIVE_STATES',
    'AUXILIARY',
    'COMPLETED',
    'CREATING',
    'FAILED',
    'FINAL_STATES',
    'LEGAL_MOVES',
    'LOST',
    'QUEUED',
    'RESTARTING',
    'RUNNING',
    'STARTING',
    'STATES',
    'STOPPED',
    'WORK',
    'Change',
    'Event',
    'ExperimentRecord',
    'Home',
    'Lease',
    'NewExperiment',
    'NewUnit',
    'Patience',
    'Request',
    'Standing',
    'Store',
    'TaskRecord',
    'UnitRecord',
    'Wait',
]
