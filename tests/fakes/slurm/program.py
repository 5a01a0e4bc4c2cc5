"""What the fake `sbatch`, `squeue`, `scancel`, `sacct` and `scontrol` do: one program, told by its name.

Formats without a source beside them were tried on 22.05.
"""

import contextlib
import fcntl
import json
import os
import re
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ['XM_FAKE_SLURM'])
LIVE = ('PENDING', 'CONFIGURING', 'RUNNING', 'COMPLETING', 'SUSPENDED')
VALUED = {
    **{'-j': 'jobs', '-t': 'states', '-n': 'name', '-o': 'format', '-O': 'Format', '-s': 'signal'},
    **{'-J': 'job-name', '-p': 'partition', '-S': 'starttime', '-u': 'user', '-a': 'array'},
}
FLAGS = {'-h': 'noheader', '-X': 'allocations', '-P': 'parsable2', '-r': 'array', '-Q': 'quiet'}


class Stop(Exception):
    """Ends the program: exit code, standard output, standard error."""


def parse(argv):
    """Options by their long names, and the other words. `--name value` is not understood, `--name=value` is."""
    options, words, rest = {}, [], list(argv)
    while rest:
        word = rest.pop(0)
        if word.startswith('--'):
            name, _, value = word[2:].partition('=')
            options[name] = value
        elif word in VALUED and not (word == '-n' and program == 'sacct'):
            options[VALUED[word]] = rest.pop(0)
        elif word == '-n':
            options['noheader'] = ''
        elif word in FLAGS:
            options[FLAGS[word]] = ''
        else:
            words.append(word)
            if program == 'sbatch':  # The script; all after it are its arguments.
                return options, [*words, *rest]
    return options, words


def job_name(job, whole=False):
    """As `%i` and JobArrayID have it: `4_3`, `4_[5-9%2]`, `7+1`, `8`."""
    if job['het'] is not None:
        return f'{job["het"]}+{job["offset"]}'
    if not job['tasks']:
        return str(job['array'] or job['job'])
    single = job['tasks'].isdecimal()
    name = f'{job["array"]}_{job["tasks"]}' if single else f'{job["array"]}_[{job["tasks"]}]'
    # man squeue, SLURM_BITSTR_LEN: 0 is without limit.
    return name if whole or os.environ.get('SLURM_BITSTR_LEN') == '0' else name[:31]


def matches(job, names):
    """Whether one of the names, as of `--jobs`, is a name of this job."""
    for name in names:
        number, _, tasks = name.partition('_')
        number, _, offset = number.partition('+')
        if int(number) not in (job['job'], job['array'], job['het']):
            continue
        if offset and int(offset) != job['offset']:
            continue
        if not tasks or not job['tasks'] or not job['tasks'].isdecimal():
            return True
        if int(job['tasks']) in expand(tasks):
            return True
    return False


def expand(tasks):
    """`[1-3,7]` or `5`, as numbers."""
    found: set[int] = set()
    for part in tasks.strip('[]').partition('%')[0].split(','):
        first, _, last = part.partition('-')
        last, _, step = last.partition(':')
        found.update(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


def fields_of(job):
    """By the names of `squeue -O`, in lower case."""
    plain = not job['tasks'] and job['het'] is None
    return {
        'jobarrayid': job_name(job),
        'jobid': job['job'],
        'arrayjobid': job['array'] or job['job'],
        'arraytaskid': job['tasks'] or 'N/A',
        'hetjobid': 'N/A' if job['het'] is None else job['het'],
        'hetjoboffset': 'N/A' if job['het'] is None else job['offset'],
        'state': job['state'],
        'reason': job['reason'],
        'nodelist': job['nodes'],
        'restartcnt': job['restarts'],
        'exit_code': job['status'],
        'timelimit': job['limit'],
        'name': job['name'],
        'partition': 'low',
        'username': 'ada',
        'endtime': 'N/A' if plain and job['state'] == 'PENDING' else 'NONE',
    }


LETTERS = {
    **{'i': 'jobarrayid', 'A': 'jobid', 'F': 'arrayjobid', 'K': 'arraytaskid', 'T': 'state'},
    **{
        'r': 'reason',
        'N': 'nodelist',
        'l': 'timelimit',
        'j': 'name',
        'P': 'partition',
        'u': 'username',
    },
}


def squeue(known, options, words):
    names = [name for name in options.get('jobs', '').split(',') if name]
    states = options.get('states', ','.join(LIVE)).upper()
    wanted = [job for job in known['jobs'] if not job['forgotten']]
    if names:
        wanted = [job for job in wanted if matches(job, names)]
        # reframe-hpc/reframe/issues/3122: only if it is asked for one job; among others it is left out.
        if not wanted and len(names) == 1:
            raise Stop(1, '', 'slurm_load_jobs error: Invalid job id specified\n')
    if 'name' in options:
        wanted = [job for job in wanted if job['name'] in options['name'].split(',')]
    if 'ALL' not in states.split(','):
        wanted = [job for job in wanted if job['state'] in states.split(',')]
    if 'Format' not in options:
        shape = options.get('format', '%i %P %j %u %T %N')
        raise Stop(0, ''.join(lettered(shape, fields_of(job)) for job in wanted), '')
    lacking = {name.lower() for name in known['lacking_fields']}
    asked = [part.partition(':')[::2] for part in options['Format'].split(',')]
    complaints = [
        f'squeue: error: Invalid job format specification: {name}\n'
        for name, _ in asked
        if name.lower() in lacking
    ]
    lines = [
        # Of an unknown field only the suffix is written.
        ''.join(padded(str(fields_of(job).get(name.lower(), '')), size) for name, size in asked)
        for job in wanted
    ]
    raise Stop(0, ''.join(f'{line}\n' for line in lines), ''.join(complaints))


def padded(text, size):
    """As `type[:[.][size][suffix]]` of `squeue -O` says; a suffix without a size leaves the text as long as it is."""
    width = size.lstrip('.').rstrip('|')
    return f'{text}|' if size.endswith('|') and not width else text.ljust(int(width or 20))


def lettered(shape, fields):
    """A line of `squeue -o`."""
    return re.sub(r'%\.?\d*([a-zA-Z])', lambda found: str(fields[LETTERS[found[1]]]), shape) + '\n'


def sacct(known, options, words):
    if not known['accounting']:
        raise Stop(1, '', 'Slurm accounting storage is disabled\n')
    names = [name for name in options.get('jobs', '').split(',') if name]
    lines = []
    asked = options.get('format', 'JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode')
    if 'noheader' not in options:
        lines.append(asked.replace(',', '|'))
    for job in known['jobs']:
        if names and not matches(job, names):
            continue
        if 'name' in options and job['name'] not in options['name'].split(','):
            continue
        cancelled = job['by'] is not None
        row = {
            'jobid': job_name(job, whole=True),
            'jobidraw': job['job'],
            'jobname': job['name'],
            # Snakemake-Profiles/slurm/pull/22: `CANCELLED by <uid>`.
            'state': job['state'] + (f' by {job["by"]}' if cancelled else ''),
            'exitcode': '0:0' if cancelled else f'{job["status"] >> 8}:{job["status"] & 127}',
            'nodelist': job['nodes'] or 'None assigned',
            'timelimit': job['limit'],
            'partition': 'low',
            'account': 'lab',
            'alloccpus': 1,
            'maxrss': '',
        }
        lines.append('|'.join(str(row[name.lower()]) for name in asked.split(',')))
    raise Stop(0, ''.join(f'{line}\n' for line in lines), '')


def sbatch(known, options, words):
    number = known['next_job']
    if 'test-only' in options:
        said = f'sbatch: Job {number} to start at 2026-11-22T23:24:42 using 1 processors on nodes n1 in partition low\n'
        raise Stop(0, '', said)
    known['next_job'] = number + 1
    tasks = options.get('array', '')
    known['jobs'].append(
        {
            **{'job': number, 'state': 'PENDING', 'array': number if tasks else None},
            **{'tasks': tasks, 'het': None, 'offset': 0, 'name': options.get('job-name', 'wrap')},
            **{'reason': 'None', 'nodes': '', 'restarts': 0, 'status': 0, 'limit': 'UNLIMITED'},
            **{'by': None, 'forgotten': False},
        }
    )
    # man sbatch, --parsable: the cluster's name, if present, comes after a semicolon.
    cluster = f';{known["cluster"]}' if known['cluster'] else ''
    raise Stop(
        0,
        f'{number}{cluster}\n' if 'parsable' in options else f'Submitted batch job {number}\n',
        '',
    )


def scancel(known, options, words):
    state = options.get('state', '').upper()
    number = {'KILL': 'KILL', 'SIGKILL': 'KILL', '9': 'KILL', '': 'KILL'}.get(
        options.get('signal', '')
    )
    for job in known['jobs']:
        live = job['state'] in LIVE and not job['forgotten'] and matches(job, words)
        if live and number == 'KILL' and state in ('', job['state']):
            job['status'] = 0 if job['state'] == 'PENDING' else 15
            job['state'], job['by'] = 'CANCELLED', os.getuid()
    raise Stop(0, '', '')


def scontrol(known, options, words):
    if words[:2] == ['show', 'config']:
        settings = {**known['config'], 'SLURM_VERSION': known['version']}
        lines = ['Configuration data as of 2026-11-22T23:24:51']
        lines += [f'{name:<23} = {value}' for name, value in sorted(settings.items())]
        raise Stop(0, '\n'.join([*lines, '', 'Slurmctld(primary) at head is UP', '']), '')
    if words[:1] == ['ping']:
        raise Stop(0, 'Slurmctld(primary) at head is UP\n', '')
    found = [job for job in known['jobs'] if not job['forgotten'] and matches(job, words[2:])]
    if not found:
        raise Stop(1, '', 'slurm_load_jobs error: Invalid job id specified\n')
    text = ''
    for job in found:
        array = f' ArrayJobId={job["array"]} ArrayTaskId={job["tasks"]}' if job['tasks'] else ''
        text += f'JobId={job["job"]}{array} JobName={job["name"]}\n'
        text += f'   JobState={job["state"]} Reason={job["reason"].replace(" ", "_")} Dependency=(null)\n'
        text += f'   Requeue=1 Restarts={job["restarts"]} BatchFlag=1 Reboot=0 '
        text += (
            f'ExitCode={job["status"] >> 8}:{job["status"] & 127}\n   NodeList={job["nodes"]}\n\n'
        )
    raise Stop(0, text, '')


def replied(known):
    """The answer that the test wants in place of the usual one, if any; it is used up unless it is kept."""
    waiting = known['replies'].get(program, [])
    if not waiting:
        return None
    return waiting[0] if waiting[0]['kept'] else waiting.pop(0)


def main():
    with (FOLDER / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (FOLDER / 'calls').open('a') as calls:
            calls.write(json.dumps([program, *sys.argv[1:]]) + '\n')
        known = json.loads((FOLDER / 'known.json').read_text())
        if '--version' in sys.argv[1:]:
            return 0, f'slurm {known["version"]}\n', ''
        reply, answer = replied(known), (0, '', '')
        if reply is None or reply['effect']:
            try:
                globals()[program](known, *parse(sys.argv[1:]))
            except Stop as stop:
                answer = stop.args
        beside = FOLDER / 'known.json.new'
        beside.write_text(json.dumps(known))
        beside.replace(FOLDER / 'known.json')
    if reply is not None:
        time.sleep(10**6 if reply['delay'] is None else reply['delay'])
        answer = reply['code'], reply['out'], reply['err']
    return answer


program = os.path.basename(sys.argv[0])
if __name__ == '__main__':
    code, out, err = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(out)
        sys.stderr.write(err)
    sys.exit(code)
