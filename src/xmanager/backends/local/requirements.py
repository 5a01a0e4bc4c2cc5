"""What a task takes out of this machine, and why a request can never be met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from xmanager.backend import Capacity, Task
from xmanager.errors import ExecutorError

CPU, RAM, GPU = 'cpu', 'ram', 'local_gpu'
_COUNTED = (CPU, RAM, GPU)
# Accepted because scripts in the field state it; a disk is not shared out here.
_IGNORED = ('disk', 'ephemeral_storage')
_GIB = 1024**3
_SLACK = 1e-9
_SMALLEST_SHARE = 0.01


def check(tasks: Sequence[Task], capacity: Capacity) -> None:
    """Raises ExecutorError if these tasks together can never run on a machine of this capacity."""
    for task in tasks:
        for name, amount in task.requirements.items():
            if name in _IGNORED:
                continue
            if name not in _COUNTED:
                raise ExecutorError(_unknown(task, name, amount))
            if not math.isfinite(amount) or amount < 0:
                raise ExecutorError(
                    f'{_stated(name, amount)}: expected a finite number that is not negative.'
                )
            if name == GPU and amount != int(amount) and not _SMALLEST_SHARE <= amount < 1:
                raise ExecutorError(
                    f'{_stated(name, amount)}: a job shares one GPU or has whole ones. '
                    f'Ask for a share from {_SMALLEST_SHARE:g} to less than 1, or for a whole number.'
                )
            if amount > _available(capacity, name) + _SLACK:
                raise ExecutorError(f'{_stated(name, amount)}: {_too_much(capacity, name)}')
    for name in _COUNTED:
        _check_together(name, [task for task in tasks if task.requirements.get(name)], capacity)


def _check_together(name: str, asking: Sequence[Task], capacity: Capacity) -> None:
    amounts = [task.requirements[name] for task in asking]
    total = devices_needed(amounts) if name == GPU else sum(amounts)
    if total <= _available(capacity, name) + _SLACK:
        return
    jobs = ', '.join(task.name for task in asking)
    shares = [f'{amount:g}' for amount in amounts if name == GPU and amount < 1]
    in_shares = f' (the shares of {", ".join(shares)} packed as well as it goes)' if shares else ''
    raise ExecutorError(
        f'jobs {jobs} start together and ask for {_amount(name, total)} in all{in_shares}: {_too_much(capacity, name)}'
    )


def devices_needed(amounts: Iterable[float]) -> int:
    """How many devices hold these together, where a fraction lies on one device, and a whole number has its own.

    The largest fraction comes first, each to the device that it fills best: the way in which the queue places them.
    """
    whole = 0.0
    room: list[float] = []
    for amount in sorted(amounts, reverse=True):
        if amount >= 1:
            whole += amount
            continue
        fitting = [left for left in room if left + _SLACK >= amount]
        best = min(fitting, default=1.0)
        if fitting:
            room.remove(best)
        room.append(best - amount)
    return round(whole) + len(room)


def demand(tasks: Sequence[Task], capacity: Capacity) -> dict[str, dict[str, float]]:
    """What each task takes while it runs. Who states no CPU takes one, so that a sweep doesn't freeze the machine.

    A group that would then be bigger than the machine shares what is left by those who stated theirs: it runs alone.
    """
    unstated = [task for task in tasks if CPU not in task.requirements]
    stated = sum(task.requirements.get(CPU, 0) for task in tasks)
    left = max(0.0, _available(capacity, CPU) - stated)
    share = min(1.0, left / len(unstated)) if unstated else 1.0
    return {
        task.name: {CPU: share, **{n: a for n, a in task.requirements.items() if n in _COUNTED}}
        for task in tasks
    }


def _available(capacity: Capacity, name: str) -> float:
    return capacity.amounts.get(name, 0)


def _stated(name: str, amount: float) -> str:
    text = f'{amount / _GIB:g} * xm.GiB' if name == RAM else f'{amount:g}'
    return f'Local(requirements=xm.JobRequirements({name}={text}))'


def _amount(name: str, amount: float) -> str:
    if name == RAM:
        return f'{amount / _GIB:.3g} GiB of memory'
    unit = 'CPU' if name == CPU else 'GPU'
    return f'{amount:g} {unit}' if amount == 1 else f'{amount:g} {unit}s'


def _too_much(capacity: Capacity, name: str) -> str:
    available = _available(capacity, name)
    if not available:
        return 'this host has no GPU. Leave local_gpu out, or set --xm_local_resources.'
    most = f'{available / _GIB:.3g} * xm.GiB' if name == RAM else f'{available:g}'
    return f'this host has {_amount(name, available)}. Ask for at most {most}, or set --xm_local_resources.'


def _unknown(task: Task, name: str, amount: float) -> str:
    return (
        f'{_stated(name, amount)} (job {task.name}): Local has no {name.upper()} to give; '
        f'the GPUs of this host are asked for by number. Write local_gpu={amount:g}.'
    )
