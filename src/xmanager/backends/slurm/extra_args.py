"""Options of sbatch that users add by themselves: which they may, and which would clash with ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from xmanager.errors import ExecutorError

# One word each: a value in a word of its own would be taken for the script if its option wants none.
_LONG = re.compile(r'--([a-z][a-z0-9-]*)(=.*)?', re.DOTALL)

_LOG = 'each job has a log of its own: see `xmanager logs`'
_ENVIRONMENT = 'jobs get the environment of the launch script, and env_vars'
_ANSWER = 'it changes what sbatch answers, and the job number would not be found in it'
_OWNER = 'units run as who has submitted them'

_RESERVED: Final = {
    'array': 'units that differ in arguments become an array by themselves; see array_parallelism',
    'job-name': 'the name tells which units it holds; name the job by xm.Job(name=…)',
    **dict.fromkeys(('output', 'error', 'open-mode'), _LOG),
    'input': 'a job reads nothing from its standard input',
    'wrap': 'what runs is the executable of the job',
    'wait': 'the supervisor waits for the job',
    **dict.fromkeys(('export', 'export-file', 'get-user-env'), _ENVIRONMENT),
    'chdir': 'say cwd= instead',
    'signal': 'say warn_before= and warn_signal= instead',
    **dict.fromkeys(
        ('requeue', 'no-requeue'), "say max_restarts= and restart_on= ('preempted') instead"
    ),
    **dict.fromkeys(
        ('parsable', 'quiet', 'verbose', 'test-only', 'help', 'usage', 'version'), _ANSWER
    ),
    'clusters': 'the supervisor asks one cluster only; set SLURM_CONF, or say login=',
    **dict.fromkeys(('uid', 'gid'), _OWNER),
    'container': 'package an image instead, such as xm.container(…)',
}

# Of these sbatch takes one, or the last one.
_FAMILIES: Final = (
    frozenset({'mem', 'mem-per-cpu', 'mem-per-gpu'}),
    frozenset({'gres', 'gpus', 'gpus-per-node', 'gpus-per-socket', 'gpus-per-task'}),
    frozenset({'cpus-per-task', 'cpus-per-gpu'}),
)


def check(words: Sequence[str]) -> None:
    """Raises ExecutorError for what is no option in one word, or one that only we may set."""
    for word in words:
        found = _LONG.fullmatch(word)
        if found is None or '\0' in word:
            raise ExecutorError(
                f"{_said(words)}: {word!r} is no long option in one word. Write '--name' or '--name=value'."
            )
        # Programs take an option by its first letters, too.
        reason = next((why for name, why in _RESERVED.items() if name.startswith(found[1])), None)
        if reason is not None:
            raise ExecutorError(f"{_said(words)}: {word!r} can't be given: {reason}.")


def check_against(words: Sequence[str], ours: Iterable[str]) -> None:
    """Raises ExecutorError for what says again, or otherwise, what one of our options says."""
    for name in names(words):
        for our in ours:
            rivals = next(
                (family for family in _FAMILIES if name_of(our) in family), {name_of(our)}
            )
            if any(rival.startswith(name) for rival in rivals):
                raise ExecutorError(
                    f'{_said(words)}: --{name} stands against {our}, which follows from the rest of Slurm(…). '
                    'Leave one of them out.'
                )


def names(words: Sequence[str]) -> list[str]:
    """`['mail-type']` for `['--mail-type=END']`."""
    return [name_of(word) for word in words]


def name_of(word: str) -> str:
    return word.removeprefix('--').partition('=')[0]


def _said(words: Sequence[str]) -> str:
    return f'Slurm(extra_sbatch_args={list(words)!r})'
