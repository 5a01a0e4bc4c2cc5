"""Slurm's commands: their words, and what their answers say. Pure; the formats are those of Slurm 20.11 to 24.11."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from xmanager.backends.slurm.site import Answer
from xmanager.errors import UnreachableError

QUIET: Mapping[str, str] = {'SLURM_BITSTR_LEN': '0', 'SLURM_TIME_FORMAT': '%s'}
"""Environment in which squeue and sacct write long lists of elements out, and times as numbers."""

ANY = -1
"""The element of a row that may stand for all elements of an array of which nothing else is said."""

Place = tuple[int, int, int]
"""Job, element and component: `4711_3` is (4711, 3, 0), `4711+1` is (4711, 0, 1)."""


@attrs.frozen
class Row:
    """What Slurm says of one place. `status` is as wait(2) has it, None if it was not told; `by` the id of the user
    who cancelled it, `limit` its time limit in Slurm's words.
    """

    state: str
    nodes: str = ''
    reason: str = ''
    status: int | None = None
    restarts: int | None = None
    limit: str = ''
    by: str = ''
    max_rss: int | None = None


Rows = dict[Place, Row]

# --- the queue


def queue(jobs: Iterable[int]) -> list[str]:
    """What waits, runs or is completing; pending elements of an array share one line."""
    return ['squeue', '--noheader', f'--jobs={_list(jobs)}', '--format=%i|%T|%N|%r']


def read_queue(answer: Answer) -> Rows:
    """Raises UnreachableError if Slurm did not answer."""
    _check_queue(answer)
    rows: Rows = {}
    for line in answer.out.splitlines():
        fields = line.split('|', 3)
        if len(fields) == 4:
            name, state, nodes, reason = (field.strip() for field in fields)
            rows.update(_spread(name, Row(state, nodes, _reason(reason))))
    return rows


_DETAILS = ('JobArrayID', 'State', 'NodeList', 'exit_code', 'RestartCnt', 'TimeLimit', 'Reason')


def details(names: Iterable[str]) -> list[str]:
    """All that Slurm remembers of these, ended or not. (A range of elements is misread by 22.05.)"""
    fields = ','.join(f'{name}:|' for name in _DETAILS)
    return [
        *('squeue', '--noheader', '--states=all', f'--jobs={_list(names)}'),
        f'--Format={fields}',
    ]


def read_details(answer: Answer) -> Rows:
    """Raises UnreachableError if Slurm did not answer."""
    _check_queue(answer)
    rows: Rows = {}
    for line in answer.out.splitlines():
        fields = [field.strip() for field in line.split('|')]
        if len(fields) < len(_DETAILS):
            continue
        name, state, nodes, status, restarts, limit, reason = fields[: len(_DETAILS)]
        row = Row(
            state,
            nodes,
            _reason(reason),
            status=_status(status),
            restarts=int(restarts) if restarts.isdecimal() else None,
            limit=limit,
        )
        rows.update(_spread(name, row))
    return rows


def named(names: Iterable[str]) -> list[str]:
    """Which jobs bear these names, ended ones too."""
    return [
        *('squeue', '--noheader', '--states=all'),
        *(f'--name={",".join(names)}', '--format=%i|%j'),
    ]


def read_named(answer: Answer) -> dict[str, int]:
    """The job of each name. Raises UnreachableError if Slurm did not answer."""
    _check_queue(answer)
    return _jobs_by_name(answer)


def _jobs_by_name(answer: Answer) -> dict[str, int]:
    found = {}
    for line in answer.out.splitlines():
        name, _, job_name = line.strip().partition('|')
        if match := _NAME.match(name):
            found[job_name.strip()] = int(match['job'])
    return found


def _check_queue(answer: Answer) -> None:
    # With one job alone, that it is forgotten is an error; among others it is left out.
    if answer.code and 'Invalid job id' not in answer.err:
        raise UnreachableError(f'squeue: {words(answer)}')


# --- what is over


def accounts(names: Iterable[str]) -> list[str]:
    """The ends of these in Slurm's database."""
    return [
        *('sacct', '--noheader', '--parsable2', '--allocations', f'--jobs={_list(names)}'),
        '--format=JobID,State,ExitCode,NodeList,Timelimit',
    ]


def read_accounts(answer: Answer) -> Rows:
    """Nothing, if accounting is not to be had here or now: then others must know."""
    rows: Rows = {}
    for line in answer.out.splitlines() if answer.code == 0 else ():
        fields = line.split('|')
        if len(fields) == 5:
            name, state, status, nodes, limit = fields
            said = state.split() or ['']
            by = said[2] if said[1:2] == ['by'] else ''
            nodes = '' if nodes == 'None assigned' else nodes
            row = Row(said[0].rstrip('+'), nodes, status=_status(status), limit=limit, by=by)
            rows.update(_spread(name, row))
    return rows


def has_no_accounts(answer: Answer) -> bool:
    """Whether this cluster keeps none; that they can't be read now is something else."""
    return bool(answer.code) and 'storage is disabled' in answer.err


def accounts_named(names: Iterable[str]) -> list[str]:
    """As `named`, from Slurm's database; since when it is to look must be said."""
    return [
        *('sacct', '--noheader', '--parsable2', '--allocations', '--starttime=now-30days'),
        *(f'--name={",".join(names)}', '--format=JobID,JobName'),
    ]


def read_accounts_named(answer: Answer) -> dict[str, int]:
    """The job of each name; nothing, if accounting is not to be had."""
    return _jobs_by_name(answer) if answer.code == 0 else {}


def completions(jobs: Iterable[int], path: str) -> list[str]:
    """The lines of the job completion log (`jobcomp/filetxt`) that tell of these jobs."""
    patterns = [f'{field}={job} ' for job in jobs for field in ('JobId', 'ArrayJobId')]
    return ['grep', '-F', *(word for one in patterns for word in ('-e', one)), '--', path]


def read_completions(answer: Answer) -> Rows:
    """Nothing, if the log can't be read here."""
    rows: Rows = {}
    for line in answer.out.splitlines():
        said = dict(word.partition('=')[::2] for word in line.split())
        job, element = said.get('ArrayJobId', said.get('JobId', '')), said.get('ArrayTaskId', '')
        if job.isdecimal() and 'JobState' in said:
            nodes = said.get('NodeList', '').replace('(null)', '')
            status, limit = _status(said.get('ExitCode', '')), said.get('TimeLimit', '')
            row = Row(said['JobState'], nodes, status=status, limit=limit)
            # Elements of an array that were cancelled before they began share one line without a number.
            rows[int(job), int(element) if element.isdecimal() else ANY, 0] = row
    return rows


# --- what is asked of it


def signal(number: str, names: Iterable[str], *, steps_only: bool) -> list[str]:
    """Signals those that run: all processes, or only those that `srun` started."""
    full = () if steps_only else ('--full',)
    return ['scancel', '--quiet', '--state=RUNNING', *full, f'--signal={number}', *names]


def cancel(names: Iterable[str]) -> list[str]:
    """Ends them, whatever they do."""
    return ['scancel', '--quiet', *names]


CONFIG = ('scontrol', 'show', 'config')


def read_config(answer: Answer) -> dict[str, str]:
    """The settings of the cluster by name. Raises UnreachableError if Slurm did not answer."""
    if answer.code:
        raise UnreachableError(f'scontrol: {words(answer)}')
    pairs = (line.partition('=') for line in answer.out.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


NODES = ('sinfo', '--noheader', '--format=%R|%c|%m|%G')


def read_nodes(answer: Answer) -> list[str]:
    """What the nodes of each partition have, such as `high: 8 CPUs, 8000 MB, gpu:a100:4`."""
    found: dict[str, None] = {}
    for line in answer.out.splitlines() if answer.code == 0 else ():
        fields = [field.strip() for field in line.split('|')]
        if len(fields) == 4:
            partition, cpus, memory, gres = fields
            gpus = '' if gres in ('', '(null)') else f', {gres}'
            found[f'{partition}: {cpus} CPUs, {memory} MB{gpus}'] = None
    return list(found)


# --- what sbatch answers

_JOB = re.compile(r'\s*(\d+)(;\S*)?\s*\Z')
_OUT_OF_REACH = re.compile(
    'Unable to contact|Socket timed out|Connection refused|Zero Bytes were transmitted|'
    'Communication connection failure|Transport endpoint|temporarily unable|standby|'
    'unged communication|Resource temporarily unavailable|Insane message length|'
    'Message (send|receive) failure|establish a configuration source|gave no answer|'
    'Unable to resolve|Slurm backup controller',
    re.IGNORECASE,
)
_FULL = re.compile(
    r'(Max|Grp)Submit|job queue full|MaxJobCount|maximum number of (jobs|pending)|Job creation failure',
    re.IGNORECASE,
)


def read_job(answer: Answer) -> int | None:
    """The number of the job that `sbatch --parsable` made; None if it made none."""
    match = _JOB.match(answer.out) if answer.code == 0 else None
    return int(match[1]) if match else None


def is_out_of_reach(said: str) -> bool:
    """Whether it is not the job's fault, and the same may well be accepted later."""
    return _OUT_OF_REACH.search(said) is not None


def is_full(said: str) -> bool:
    """Whether fewer jobs, or the same ones later, would be accepted."""
    return _FULL.search(said) is not None


_NOISE = re.compile(
    r'^(sbatch|squeue|scancel|scontrol|sacct|slurm_\w+ error)?:?\s*(error|fatal)?:?\s*'
    r'((Batch job submission failed|allocation failure):\s*)?'
)


def words(answer: Answer) -> str:
    """What a command said went wrong, without its own name: `Invalid partition name specified`."""
    lines = [_NOISE.sub('', line.strip()) for line in answer.err.splitlines()]
    said = list(dict.fromkeys(line for line in lines if line and not line.startswith('Try "')))
    return '; '.join(said[-3:]) or f'exit code {answer.code}'


# --- names of jobs

_NAME = re.compile(
    r'(?P<job>\d+)(_(?P<element>\d+)|_\[(?P<elements>[^\]]*)\]?|\+(?P<component>\d+))?\Z'
)


def _spread(name: str, row: Row) -> Iterator[tuple[Place, Row]]:
    """The row for each place that a name stands for; of `4711_[1-3,7%2]` there are four."""
    match = _NAME.match(name)
    if match is None:
        return
    job = int(match['job'])
    if match['elements'] is None:
        yield (job, int(match['element'] or 0), int(match['component'] or 0)), row
        return
    for part in match['elements'].partition('%')[0].split(','):
        if whole := _RANGE.fullmatch(part):
            first = int(whole['first'])
            last, step = int(whole['last'] or first), int(whole['step'] or 1)
            for element in range(first, last + 1, step):
                yield (job, element, 0), row
        else:  # Cut short: `4711_[1-3,...]`.
            yield (job, ANY, 0), row


_RANGE = re.compile(r'(?P<first>\d+)(-(?P<last>\d+)(:(?P<step>\d+))?)?')


def find(rows: Mapping[Place, Row], place: Place) -> Row | None:
    """What is said of a place; a component of which nothing is said fares as the first one does."""
    job, element, component = place
    row = rows.get(place)
    if row is None and component:
        row = rows.get((job, element, 0))
    return row if row is not None else rows.get((job, ANY, 0))


def elements(job: int, numbers: Sequence[int]) -> str:
    """A name for these elements of an array, as scancel reads it: `4711_[1-3,7]`."""
    parts = []
    start = previous = numbers[0]
    for number in [*numbers[1:], ANY]:
        if number != previous + 1:
            parts.append(f'{start}-{previous}' if previous > start else f'{start}')
            start = number
        previous = number
    return f'{job}_[{",".join(parts)}]'


def _list(names: Iterable[object]) -> str:
    return ','.join(str(name) for name in names)


def _reason(said: str) -> str:
    return '' if said in ('None', '(null)') else said


def _status(said: str) -> int | None:
    """Of `97:0` (exit code, signal), or of the number as wait(2) has it."""
    code, colon, number = said.partition(':')
    if not code.isdecimal() or (colon and not number.isdecimal()):
        return None
    return int(code) << 8 | int(number) if colon else int(code)
