"""What this machine has, and what may be missing: the findings that `xmanager doctor` prints."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from xmanager import backends
from xmanager.backend import Capacity
from xmanager.errors import LedgerError, XManagerError
from xmanager.launch import premises
from xmanager.launch.findings import BAD, MISSING, OK, WARN, Finding
from xmanager.launch.gpu_findings import inspect_gpus
from xmanager.launch.ledger_finding import inspect_ledger
from xmanager.launch.slurm_findings import inspect_slurm
from xmanager.store import Home


def inspect(home: Home, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Looks at everything, one thing after the other."""
    yield python()
    yield from machine(environ)
    yield inspect_ledger(environ)
    yield from engines(home, environ)
    yield premises.home(home)
    yield premises.database(home)


def python() -> Finding:
    """The interpreter, in which local jobs of PythonPackage run too."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        ours = version('xmanager')
    except PackageNotFoundError:
        ours = 'not installed'
    found = platform.python_version()
    detail = f'{found}, {sys.executable}, xmanager {ours}'
    return Finding(
        'python',
        OK,
        detail,
        facts={'version': found, 'executable': sys.executable, 'xmanager': ours},
    )


def machine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """CPUs, memory and GPUs, as the local queue counts them."""
    try:
        capacity = backends.load('local', environ).capacity() or Capacity({})
    except LedgerError:
        return  # What is said of the ledger says it all.
    except XManagerError as error:
        yield Finding('local', BAD, str(error), 'mend that setting')
        return
    yield _cpus(capacity)
    yield _memory(capacity)
    yield inspect_gpus(capacity, environ)


def _cpus(capacity: Capacity) -> Finding:
    usable = capacity.amounts.get('cpu', 0)
    installed = os.cpu_count() or 0
    detail = f'{usable:g} to use'
    if usable != installed:
        detail += f', of {installed} (affinity, a cgroup or --xm_local_resources limits them)'
    return Finding('cpus', OK, detail, facts={'usable': usable, 'installed': installed})


def _memory(capacity: Capacity) -> Finding:
    usable = capacity.amounts.get('ram', 0)
    return Finding('memory', OK, f'{usable / 2**30:.1f} GiB', facts={'bytes': usable})


def engines(home: Home, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Programs that build images or run units elsewhere; none of them is needed to run local programs."""
    yield containers(environ)
    yield from inspect_slurm(home, environ)
    yield _engine(
        environ,
        'kubernetes',
        'kubectl',
        'https://kubernetes.io/docs/tasks/tools',
        _kubernetes_trouble,
    )


def containers(environ: Mapping[str, str]) -> Finding:
    """The container engine in which jobs with an image run."""
    from xmanager.containers import EngineError, find_engine

    try:
        engine = find_engine(environ)
    except EngineError as error:
        advice = 'only if you need it: https://docs.docker.com/engine/install'
        return Finding('containers', MISSING, str(error), advice)
    facts = {
        'engine': engine.kind,
        'version': engine.version,
        'api': engine.api_version,
        'url': engine.url,
    }
    name = engine.kind.capitalize()
    return Finding('containers', OK, f'{name} {engine.version} at {engine.url}', facts=facts)


def _engine(
    environ: Mapping[str, str],
    topic: str,
    program: str,
    source: str,
    trouble: Callable[[Mapping[str, str]], tuple[str, str]] = lambda environ: ('', ''),
) -> Finding:
    path = shutil.which(program, path=environ.get('PATH'))
    facts = {'program': program, 'path': path}
    if path is None:
        return Finding(
            topic, MISSING, f'{program} is not on PATH', f'only if you need it: {source}', facts
        )
    wrong, advice = trouble(environ)
    if wrong:
        return Finding(topic, WARN, f'{path}, but {wrong}', advice, facts)
    return Finding(topic, OK, path, facts=facts)


def _kubernetes_trouble(environ: Mapping[str, str]) -> tuple[str, str]:
    if environ.get('KUBECONFIG') or environ.get('KUBERNETES_SERVICE_HOST'):
        return '', ''
    config = Path(environ.get('HOME') or '~').expanduser() / '.kube' / 'config'
    if config.exists():
        return '', ''
    return f'there is no {config}', "get one from your cluster's administrator, or set KUBECONFIG"
