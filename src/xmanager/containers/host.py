"""What a keeper learns from the host on which it runs."""

from __future__ import annotations

import resource

# More than that the system's own limits may not allow; a container that needs more is a rare one.
_MOST = 32768


def hard_limits() -> dict[str, int]:
    """The hard limits of this process on open files and processes, as an engine calls them."""
    kinds = {'nofile': resource.RLIMIT_NOFILE, 'nproc': resource.RLIMIT_NPROC}
    limits = {name: resource.getrlimit(kind)[1] for name, kind in kinds.items()}
    return {name: min(hard, _MOST) if hard >= 0 else _MOST for name, hard in limits.items()}


def can_be_signalled(pid: int, wanted: int) -> bool:
    """Whether process 1 of a container blocks, ignores or handles a signal, and is no more the engine's own starter.

    True if that can't be seen (an engine in a virtual machine).
    """
    try:
        with open(f'/proc/{pid}/status', encoding='utf-8', errors='replace') as file:
            facts = dict(line.rstrip('\n').split(':\t', 1) for line in file if ':\t' in line)
    except OSError:
        return True
    if facts.get('Name', '').startswith('runc:'):
        return False
    masks = [int(facts.get(name, '0'), 16) for name in ('SigBlk', 'SigIgn', 'SigCgt')]
    return any(mask >> (wanted - 1) & 1 for mask in masks)
