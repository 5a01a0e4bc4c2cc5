"""What `xmanager doctor` says of Slurm: which cluster this is, what it has, and whether its nodes see our files."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.backend import SHARED_VARIABLE
from xmanager.backends.slurm import commands
from xmanager.backends.slurm.site import Answer
from xmanager.errors import UnreachableError
from xmanager.launch.findings import MISSING, OK, WARN, Finding
from xmanager.store import Home
from xmanager.store.file_system import file_system_of, is_of_the_network

_SECONDS: Final = 5.0
_PING: Final = ('scontrol', 'ping')
_PARTITIONS: Final = ('sinfo', '--noheader', '--format=%P|%D|%G|%a|%l')
_NODES: Final = ('sinfo', '--noheader', '--Node', '--format=%n')
_SACCT: Final = ('sacct', '--noheader', '--allocations', '--format=JobID')
_CONTAINERS: Final = ('apptainer', 'singularity', 'podman', 'enroot')
_GPUS: Final = re.compile(r'gpu:(?:(?P<type>[^:,()]+):)?(?P<count>\d+)')
_SHOWN: Final = 4
# Of one host, for certain: in its memory, or in a container.
_OF_ONE_HOST: Final = frozenset({'tmpfs', 'ramfs', 'overlay', 'aufs', 'fuse.fuse-overlayfs'})

_ADVICE: Final = 'set XM_SHARED to a folder that all nodes have at the same path'


@attrs.frozen
class Partition:
    """`gpus` counts those of all its nodes by type, '' where the cluster names none."""

    name: str
    is_default: bool
    nodes: int
    gpus: Mapping[str, int]
    available: bool
    time_limit: str


def inspect_slurm(home: Home, environ: Mapping[str, str]) -> Iterator[Finding]:
    """The cluster to which this machine submits, and the folder that its nodes must see."""
    path = shutil.which('sbatch', path=environ.get('PATH'))
    if path is None:
        advice = "only if you need it: run xmanager on a login node, or xm_local.Slurm(login='user@host')"
        facts = {'program': 'sbatch', 'path': None}
        yield Finding('slurm', MISSING, 'sbatch is not on PATH', advice, facts)
        return
    cluster = _cluster(path, environ)
    yield cluster
    yield _shared(home, environ, cluster.status == OK and _is_this_machine_alone(environ))


def _cluster(path: str, environ: Mapping[str, str]) -> Finding:
    facts: dict[str, Any] = {'program': 'sbatch', 'path': path}
    try:
        _ping(environ)
        config = commands.read_config(_ask(commands.CONFIG, environ))
        partitions = read_partitions(_answered(_ask(_PARTITIONS, environ)).out)
    except UnreachableError as error:
        advice = 'wait, or ask those who run the cluster'
        return Finding('slurm', WARN, f'{path}, but {error}', advice, facts)
    accounting = _trouble_with_accounting(environ)
    engines = [name for name in _CONTAINERS if shutil.which(name, path=environ.get('PATH'))]
    version, name = config.get('SLURM_VERSION', ''), config.get('ClusterName', '')
    facts |= {
        'version': version,
        'cluster': name,
        'partitions': [attrs.asdict(one) for one in partitions],
        'accounting': not accounting,
        'containers': engines,
    }
    told = [
        f'{version}, cluster {name}',
        gpus_in_words(partitions),
        f'no sacct ({accounting})' if accounting else 'sacct works',
        f'for containers, this host has {" and ".join(engines) or "none of " + ", ".join(_CONTAINERS)}',
    ]
    return Finding('slurm', OK, '; '.join(told), facts=facts)


def _shared(home: Home, environ: Mapping[str, str], is_alone: bool) -> Finding:
    """The folder in which the nodes look for what they run, and write what it prints."""
    stated = environ.get(SHARED_VARIABLE, '')
    folder = Path(stated).expanduser().absolute() if stated else home.path
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    kind = file_system_of(nearest)
    facts = {'path': str(folder), 'file_system': kind, 'setting': stated or None}
    detail = f'{folder}, {kind}'
    if not nearest.is_dir():
        return Finding('shared', WARN, f'{detail}: {nearest} is no folder', _ADVICE, facts)
    if is_of_the_network(kind):
        return Finding('shared', OK, detail, facts=facts)
    if is_alone:
        return Finding('shared', OK, f'{detail}; all nodes are this machine', facts=facts)
    if kind in _OF_ONE_HOST:
        return Finding(
            'shared', WARN, f'{detail}: the nodes will hardly see what is there', _ADVICE, facts
        )
    return Finding('shared', OK, f'{detail}: right if the nodes have it at that path', facts=facts)


def read_partitions(said: str) -> list[Partition]:
    """From sinfo's lines, of which a partition has one for each sort of nodes."""
    found: dict[str, Partition] = {}
    for line in filter(None, said.splitlines()):
        name, nodes, resources, available, limit = line.strip().split('|')
        gpus: dict[str, int] = {}
        for match in _GPUS.finditer(resources):
            kind = match['type'] or ''
            gpus[kind] = gpus.get(kind, 0) + int(nodes) * int(match['count'])
        before = found.get(name)
        for kind, count in before.gpus.items() if before else ():
            gpus[kind] = gpus.get(kind, 0) + count
        total = int(nodes) + (before.nodes if before else 0)
        found[name] = Partition(
            name.rstrip('*'), name.endswith('*'), total, gpus, available == 'up', limit
        )
    return list(found.values())


def gpus_in_words(partitions: Sequence[Partition]) -> str:
    """`GPUs: 16 a100 in low (default) and high, 4 in short`; partitions with the same ones together."""
    alike: dict[str, list[str]] = {}
    for one in partitions:
        if one.gpus:
            gpus = ' and '.join(f'{count} {kind}'.strip() for kind, count in one.gpus.items())
            alike.setdefault(gpus, []).append(
                f'{one.name} (default)' if one.is_default else one.name
            )
    if not alike:
        return f'no GPUs in its {len(partitions)} partitions' if partitions else 'no partitions'
    return 'GPUs: ' + ', '.join(f'{gpus} in {_listed(names)}' for gpus, names in alike.items())


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:_SHOWN]]
    if more := len(names) - _SHOWN:
        shown[_SHOWN:] = [f'{more} more'] if more > 0 else []
    *first, last = shown
    return f'{", ".join(first)} and {last}' if first else last


def _ping(environ: Mapping[str, str]) -> None:
    """Raises UnreachableError at once where other commands would try for long."""
    answer = _ask(_PING, environ)
    if answer.code:
        said = ' '.join((answer.out or answer.err).split())
        raise UnreachableError(f'`scontrol ping` says: {said}')


def _trouble_with_accounting(environ: Mapping[str, str]) -> str:
    try:
        answer = _ask(_SACCT, environ)
    except UnreachableError as error:
        return str(error)
    return commands.words(answer) if answer.code else ''


def _is_this_machine_alone(environ: Mapping[str, str]) -> bool:
    try:
        hosts = {name.partition('.')[0] for name in _answered(_ask(_NODES, environ)).out.split()}
    except UnreachableError:
        return False
    return hosts <= {platform.node().partition('.')[0], 'localhost'} and bool(hosts)


def _ask(argv: Sequence[str], environ: Mapping[str, str]) -> Answer:
    try:
        done = subprocess.run(
            argv,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors='replace',
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise UnreachableError(f'{argv[0]} is not on PATH') from None
    except OSError as error:
        raise UnreachableError(f'{argv[0]} can not be run: {error.strerror}') from error
    except subprocess.TimeoutExpired:
        raise UnreachableError(f'{argv[0]} gave no answer in {_SECONDS:g} s') from None
    return Answer(done.returncode, done.stdout, done.stderr)


def _answered(answer: Answer) -> Answer:
    if answer.code:
        raise UnreachableError(f'sinfo: {commands.words(answer)}')
    return answer
