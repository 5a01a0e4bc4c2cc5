"""From what Slurm says of a task, and what its element recorded, to how the task fares. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

import attrs

from xmanager.backend import Task, TaskObservation
from xmanager.backends.slurm.batch import LOST_FOLDER
from xmanager.backends.slurm.commands import Row
from xmanager.backends.slurm.node.element import SUPERSEDED, Begun, End

_TERM, _KILL = 15, 9

# man squeue, JOB STATE CODES. The others are those of jobs that are over.
_WAITING = frozenset(
    {
        *('PENDING', 'CONFIGURING', 'REQUEUED', 'REQUEUE_FED', 'REQUEUE_HOLD', 'RESV_DEL_HOLD'),
        *('SPECIAL_EXIT', 'POWER_UP_NODE'),
    }
)
_RUNNING = frozenset(
    {
        *('RUNNING', 'COMPLETING', 'SUSPENDED', 'RESIZING', 'SIGNALING', 'STAGE_OUT', 'STOPPED'),
        'UPDATE_DB',
    }
)
_LOST = {
    'NODE_FAIL': 'node {} failed',
    'BOOT_FAIL': 'node {} did not boot',
    'LAUNCH_FAILED': 'node {} could not start it (Slurm: LAUNCH_FAILED)',
    'RECONFIG_FAIL': 'node {} could not be reconfigured (Slurm: RECONFIG_FAIL)',
    'REVOKED': 'was moved to another cluster (Slurm: REVOKED)',
}
_OUT_OF_MEMORY = 'OUT_OF_MEMORY'
_MEMORY = f'ran out of memory (Slurm: {_OUT_OF_MEMORY})'

_RECORD_DELAY = 5.0
"""Seconds after which the record of a job that is over is there, if it ever will be: NFS shows it late."""
_KILLED_DELAY = 2.0
_EXPLAINING = 2.0
"""Seconds for which the end of a program that failed is kept back until Slurm has said whether it lacked memory."""
_FORGOTTEN_DELAY = 10.0


class Need(enum.Enum):
    """What must be known before more can be said of a task."""

    NOTHING = enum.auto()
    QUEUE = enum.auto()  # A newer word of Slurm.
    DETAILS = enum.auto()  # What Slurm says of jobs that have ended, too.
    HISTORY = enum.auto()  # What is known of jobs that Slurm has forgotten.


@attrs.frozen
class Facts:
    """All that is known of one task of a submitted unit.

    `begun` and `ends` are records by restart. `row` is Slurm's word of the task, asked for after the newest of them
    was seen; without one, `missing` says what was asked for it in vain. `waited` is how many seconds after Slurm's word
    that the task is over, or not known, records were looked for. `is_alone`: the unit has no other task. `stopping` and
    `killing`: it was asked to end, and was sent KILL. `folder` is the batch's, `user` who cancelled it, `tells_who`
    whether Slurm's accounts may still tell that. `submitted_at` and `noticed_at` (of the newest record) are times of
    this machine's clock, 0 if not known; `age` is for how many seconds the newest record has been known.
    """

    task: Task
    folder: str
    is_alone: bool
    begun: Mapping[int, Begun] = attrs.field(factory=dict)
    ends: Mapping[int, End] = attrs.field(factory=dict)
    row: Row | None = None
    missing: Need = Need.NOTHING
    waited: float = 0.0
    stopping: bool = False
    killing: bool = False
    tells_who: bool = True
    submitted_at: float = 0.0
    noticed_at: float = 0.0
    age: float = math.inf
    user: str = ''

    @property
    def restart(self) -> int:
        """The latest that is known of."""
        told = self.row.restarts if self.row else None
        return max([0, told or 0, *self.begun, *self.ends])


@attrs.frozen
class Judgement:
    """How a task fares, and what is needed to say more; once it has ended, nothing is."""

    observation: TaskObservation
    need: Need = Need.NOTHING

    @property
    def is_over(self) -> bool:
        return self.observation.state not in ('waiting', 'running')


def judge(facts: Facts) -> Judgement:
    """The last word is the record of a program that ended by itself; else Slurm says why it ended, or what comes."""
    for restart, end in sorted(facts.ends.items()):
        if _is_final(end, facts):
            if _may_lack_memory(end, facts):
                return Judgement(_running(facts), Need.DETAILS)
            return Judgement(_ended(facts, restart, end))
    if facts.row is not None:
        return _judge_by_row(facts, facts.row)
    return _judge_without_row(facts)


def is_over(row: Row) -> bool:
    """Whether nothing of it runs any more, or will."""
    return row.state not in _WAITING and row.state not in _RUNNING


def _is_final(end: End, facts: Facts) -> bool:
    """Whether the record tells all. KILL may have come from Slurm, for too much memory."""
    if end.timed_out or (facts.stopping and not end.refused):
        return True
    if end.refused:
        return not end.refused.startswith('has ended already')
    return not end.terminated and not (facts.is_alone and end.signal == _KILL)


def _may_lack_memory(end: End, facts: Facts) -> bool:
    """Whether Slurm is to be asked why it failed: it may have survived one of its processes, and knows no reason."""
    has_failed = bool(end.exit_code) and not (end.refused or end.timed_out or facts.stopping)
    is_open = facts.missing is Need.NOTHING and not (facts.row and is_over(facts.row))
    return facts.is_alone and has_failed and is_open and facts.age < _EXPLAINING


def _judge_by_row(facts: Facts, row: Row) -> Judgement:
    latest = facts.ends.get(facts.restart)
    if row.state in _WAITING:
        return Judgement(_waiting(facts, row), Need.DETAILS if facts.stopping else Need.NOTHING)
    if row.state in _RUNNING:
        is_ending = latest or facts.stopping or row.state == 'COMPLETING'
        need = Need.DETAILS if is_ending else Need.NOTHING
        return Judgement(_running(facts, row.nodes), need)
    if row.state == 'CANCELLED' and not facts.stopping and _may_learn_who(facts, row):
        return Judgement(_running(facts, row.nodes), Need.HISTORY)
    if latest or facts.waited >= _patience(facts, row):
        return Judgement(_over(facts, row, latest))
    return Judgement(_running(facts, row.nodes), Need.QUEUE)


def _may_learn_who(facts: Facts, row: Row) -> bool:
    """Only the accounts say who has cancelled a job, and they say it late."""
    may_tell = facts.tells_who and not row.by
    return may_tell and facts.missing is not Need.HISTORY and facts.waited < _RECORD_DELAY


def _patience(facts: Facts, row: Row) -> float:
    """How long a record may be on its way when Slurm says that it is over. Who is killed leaves none."""
    if facts.killing:
        return 0.0
    if row.state in ('COMPLETED', 'FAILED'):
        return _RECORD_DELAY
    return _KILLED_DELAY if facts.begun or row.nodes else 0.0


def _judge_without_row(facts: Facts) -> Judgement:
    latest = facts.ends.get(facts.restart)
    going_on = _running(facts) if facts.begun or latest else TaskObservation('waiting')
    if facts.missing is Need.NOTHING:
        return Judgement(going_on, Need.DETAILS if latest or facts.stopping else Need.QUEUE)
    if facts.missing is Need.QUEUE:
        return Judgement(going_on, Need.DETAILS)
    if facts.stopping and not facts.begun and not latest and facts.waited >= 0.0:
        return Judgement(TaskObservation('exited', signal=_TERM))
    if facts.missing is Need.DETAILS:
        return Judgement(going_on, Need.HISTORY)
    if latest:
        return Judgement(_ended(facts, facts.restart, latest))
    if facts.waited < _FORGOTTEN_DELAY:
        return Judgement(going_on, Need.HISTORY)
    return Judgement(_forgotten(facts))


def _forgotten(facts: Facts) -> TaskObservation:
    restarts = facts.restart
    if facts.stopping:
        number = _KILL if facts.killing else _TERM
        return TaskObservation('exited', signal=number, restarts=restarts)
    if facts.begun:
        why = 'ended, but nobody knows how: Slurm has forgotten it, and it left no record'
        return TaskObservation('vanished', reason=why, restarts=restarts)
    why = 'left the queue of Slurm before it began: it was cancelled outside xmanager, or Slurm has forgotten it'
    return TaskObservation('vanished', reason=why)


def _waiting(facts: Facts, row: Row) -> TaskObservation:
    restarts = facts.restart
    has_begun = restarts in facts.begun or restarts in facts.ends
    if has_begun and (row.restarts is None or row.restarts == restarts):
        restarts += 1  # The queue does not tell the number; what had begun will begin once more.
    reason = row.reason or ('' if row.state == 'PENDING' else row.state)
    return TaskObservation('waiting', reason=reason, restarts=restarts)


def _running(facts: Facts, nodes: str = '') -> TaskObservation:
    restart = facts.restart
    begun = facts.begun.get(restart)
    return TaskObservation(
        'running',
        where=nodes or (begun.node if begun else ''),
        started_at=_started_at(facts, begun),
        restarts=restart,
    )


def _started_at(facts: Facts, begun: Begun | None) -> float | None:
    if begun is None or begun.at is None:
        return None
    return begun.at + _shift(facts, begun.at)


def _shift(facts: Facts, at: float | None) -> float:
    """What to add to times of the node's clock: it is wrong if that was before it was submitted, or in the future."""
    if at is None:
        return 0.0
    return min(max(at, facts.submitted_at), facts.noticed_at or at) - at


def _ended(facts: Facts, restart: int, end: End) -> TaskObservation:
    """As its record says."""
    begun = facts.begun.get(restart)
    started_at = _started_at(facts, begun)
    reason, cause = _told(facts, end)
    is_ours = not end.refused.startswith(SUPERSEDED)
    return TaskObservation(
        'exited' if is_ours else 'vanished',
        exit_code=end.exit_code if is_ours else None,
        signal=end.signal,
        started_at=started_at,
        ended_at=_ended_at(facts, begun, end, started_at),
        user_seconds=end.user_seconds,
        system_seconds=end.system_seconds,
        reason=reason,
        cause=cause,
        where=begun.node if begun else '',
        restarts=restart,
    )


def _ended_at(facts: Facts, begun: Begun | None, end: End, started_at: float | None) -> float:
    """As long after its start as its node says, but not in the future."""
    if end.at is None:
        return facts.noticed_at
    shift = _shift(facts, begun.at if begun else end.at)
    latest = facts.noticed_at or end.at + shift
    return max(min(end.at + shift, latest), started_at or 0.0)


def _told(facts: Facts, end: End) -> tuple[str, str]:
    options = facts.task.options
    if end.timed_out:
        return f'timed out after {options.get("timeout")} s', 'timeout'
    if end.refused.startswith(SUPERSEDED):
        return f'{end.refused}, of which no more is known', ''
    if end.refused:
        return end.refused, ''
    if end.has_failed and facts.row and facts.row.state == _OUT_OF_MEMORY:
        return _MEMORY, ''
    name = options.get('warn_signal') or 'SIGUSR1'
    if end.warned and end.signal is not None and _number(name) == end.signal:
        when = f'{options.get("warn_before")} s before its timeout'
        return f'was killed by {name}, our warning {when}, which it must handle', ''
    return '', ''


def _number(name: str) -> int:
    import signal

    return int(signal.Signals[name])


def _over(facts: Facts, row: Row, end: End | None) -> TaskObservation:
    """As Slurm says, with the numbers of the record if there is one."""
    restart = facts.restart
    if end is not None:
        seen = _ended(facts, restart, end)
    else:
        code, number = _numbers(row)
        seen = attrs.evolve(_running(facts), state='exited', exit_code=code, signal=number)
    seen = attrs.evolve(seen, where=row.nodes or seen.where, max_rss=row.max_rss)
    if row.state in ('COMPLETED', 'FAILED'):
        return _failed(facts, row, seen) if end is None else seen
    if row.state == 'CANCELLED' and facts.stopping:
        return _as_asked(facts, seen, end)
    if row.state in _LOST:
        why = _LOST[row.state].format(row.nodes or 'unknown')
        return attrs.evolve(seen, state='vanished', exit_code=None, signal=None, reason=why)
    reason, cause, number = _explain(facts, row)
    if not seen.signal and not seen.exit_code:
        seen = attrs.evolve(seen, exit_code=None, signal=number)
    return attrs.evolve(seen, reason=reason, cause=cause)


def _as_asked(facts: Facts, seen: TaskObservation, end: End | None) -> TaskObservation:
    if end is not None:
        return seen
    was_killed = facts.killing and facts.begun
    return attrs.evolve(seen, exit_code=None, signal=_KILL if was_killed else _TERM)


def _failed(facts: Facts, row: Row, seen: TaskObservation) -> TaskObservation:
    """Slurm knows an exit code, and there is no record: what ended was the script, or its shell was killed."""
    if facts.begun or facts.stopping:
        return seen
    node = f'node {row.nodes}' if row.nodes else 'the node'
    if seen.exit_code == LOST_FOLDER:
        why = f'{node} does not see {facts.folder}: set XM_SHARED to a folder that all nodes see'
    else:
        said = row.reason or row.state
        why = f'ended before it began: {node} did not run the batch script (Slurm: {said})'
    return attrs.evolve(seen, reason=why)


def _explain(facts: Facts, row: Row) -> tuple[str, str, int]:
    """Why Slurm ended it: the reason, the cause, and the signal if nobody saw one."""
    if row.state == 'TIMEOUT':
        after = f' after {row.limit}' if row.limit else ''
        return f"timed out{after} (Slurm's time limit)", 'timeout', _TERM
    if row.state == 'PREEMPTED':
        return 'was preempted by Slurm', 'preempted', _TERM
    if row.state == _OUT_OF_MEMORY:
        return _MEMORY, '', _KILL
    if row.state == 'DEADLINE':
        return 'was ended at its deadline (Slurm: DEADLINE)', 'timeout', _TERM
    if row.state == 'CANCELLED':
        by = f' by {facts.user}' if facts.user else ''
        return f'was cancelled{by} outside xmanager', '', _TERM
    return f'was ended by Slurm ({row.state})', '', _TERM


def _numbers(row: Row) -> tuple[int | None, int | None]:
    """Exit code and signal of a wait status; a shell tells of a signal as 128 + n."""
    if row.status is None:
        return (0, None) if row.state == 'COMPLETED' else (None, None)
    code, number = row.status >> 8, row.status & 0x7F
    if not number and 128 < code < 128 + 65:
        number = code - 128
    return (None, number) if number else (code, None)
