"""What the fake engines do. Options are those that container.sh gives; an unknown one is refused, as in reality.

https://apptainer.org/docs/user/latest, https://docs.podman.io/en/latest/markdown/podman-run.1.html,
https://github.com/NVIDIA/enroot/blob/master/doc/cmd/start.md. The fake enroot needs root: it unpacks and enters images.
"""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

_PATH = '/usr/local/bin:/usr/bin:/bin'
# Options, and whether a value follows.
_APPTAINER = {
    '--cleanenv': False,
    '--writable-tmpfs': False,
    '--nv': False,
    '--rocm': False,
    '--no-privs': False,
    '--mount': True,
    '--home': True,
    '--pwd': True,
}
_PODMAN = {
    '--rm': False,
    '--pull': True,
    '--network': True,
    '--security-opt': True,
    '--mount': True,
    '--volume': True,
    '--env': True,
    '--device': True,
    '--shm-size': True,
    '--workdir': True,
    '--entrypoint': True,
    '--name': True,
}
_ENROOT = {'--rw': False, '--mount': True, '--env': True}

# Mounts (source, target, `ro` or `rw`) up to `--`, then the words for /etc/rc, as enroot-switchroot starts it.
_ENTER = """
root=$1
shift
mount -t proc proc "$root/proc" 2> /dev/null
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root${2%/*}" && : >> "$root$2"; fi
    mount --bind "$1" "$root$2" || exit 70
    [ "$3" = rw ] || mount -o remount,bind,ro "$root$2" || exit 70
    shift 3
done
shift
exec /usr/sbin/chroot "$root" /bin/sh /etc/rc "$@"
"""


def main(name: str, state: str) -> None:
    """Is `name`, which was called with the arguments of this process."""
    words = sys.argv[1:]
    with open(f'{state}/calls', 'a') as log:
        log.write(json.dumps([name, *words]) + '\n')
    if name == 'podman':
        _podman(words, Path(state))
    if name == 'enroot':
        _enroot(words, Path(state))
    _apptainer(name, words)


def _refuse(message: str) -> NoReturn:
    print(f'FATAL:   {message}', file=sys.stderr)
    sys.exit(255)


def _options(
    words: list[str], known: Mapping[str, bool]
) -> tuple[list[tuple[str, str]], list[str]]:
    """The options before the first word that is none, and the words from there on."""
    found: list[tuple[str, str]] = []
    left = list(words)
    while left and left[0].startswith('-'):
        option = left.pop(0)
        if option not in known:
            _refuse(f'unknown flag: {option}')
        found.append((option, left.pop(0) if known[option] else ''))
    return found, left


def _manifest(layout: Path) -> dict[str, object]:
    index = json.loads((layout / 'index.json').read_bytes())
    digest = index['manifests'][0]['digest'].removeprefix('sha256:')
    manifest = json.loads((layout / 'blobs' / 'sha256' / digest).read_bytes())
    assert isinstance(manifest, dict)
    return manifest


def _check_mount(value: str) -> None:
    fields = dict(field.partition('=')[::2] for field in next(csv.reader([value])) if '=' in field)
    if fields.get('type') != 'bind' or not os.path.exists(fields.get('source', '')):
        _refuse(f'mount source {fields.get("source")} does not exist ({value})')


def _apptainer(name: str, words: list[str]) -> NoReturn:
    if words == ['--version']:
        print('apptainer version 1.3.6' if name == 'apptainer' else 'singularity-ce version 4.1.5')
        sys.exit(0)
    if words[0] in ('--quiet', '--silent'):
        words = words[1:]
    if words[0] == 'build':
        _build(words[1:])
    if words[0] != 'exec':
        _refuse(f'unknown command "{words[0]}"')
    options, (sif, *command) = _options(words[1:], _APPTAINER)
    if Path(sif).read_text() != 'SIF':
        _refuse(f'could not open image {sif}: image format not recognized')
    for value in (value for option, value in options if option == '--mount'):
        _check_mount(value)
    prefix = name.upper()
    if os.environ.get(f'{prefix}_NO_EVAL') != '1':
        _refuse('the arguments would be evaluated by a shell')
    mark = f'{prefix}ENV_'
    given = {key.removeprefix(mark): v for key, v in os.environ.items() if key.startswith(mark)}
    given = {'PATH': _PATH, 'HOME': dict(options)['--home'], **given}
    _run(command, given, dict(options)['--pwd'])


def _build(words: list[str]) -> NoReturn:
    target, source = words
    if os.path.exists(target):
        _refuse(f'build target {target} already exists')
    while os.path.exists('slow'):
        time.sleep(0.02)
    if os.path.exists('broken'):
        Path(target).write_text('half')
        _refuse('while creating squashfs: no space left on device')
    _manifest(Path(source.removeprefix('oci:')))
    Path(target).write_text('SIF')
    sys.exit(0)


def _podman(words: list[str], state: Path) -> NoReturn:
    store = state / 'images'
    store.mkdir(exist_ok=True)
    match words:
        case ['image', 'exists', image]:
            sys.exit(not (store / image).exists())
        case ['pull', '--quiet', source]:
            config = _manifest(Path(source.removeprefix('oci:')))['config']
            assert isinstance(config, dict)
            (store / config['digest'].removeprefix('sha256:')).touch()
            sys.exit(0)
        case ['kill', _] | ['rm', '--force', _]:
            sys.exit(0)
        case ['run', *rest]:
            _podman_run(rest, store)
    _refuse(f'unrecognized command `podman {words[0]}`')


def _podman_run(words: list[str], store: Path) -> NoReturn:
    options, (image, *command) = _options(words, _PODMAN)
    if not (store / image).exists():
        _refuse(f'{image}: image not known')
    given = {'PATH': _PATH, 'HOME': '/root', 'container': 'podman'}
    for option, value in options:
        if option == '--mount':
            _check_mount(value)
        name, equals, own = value.partition('=')
        if option == '--env' and (equals or name in os.environ):
            given[name] = own if equals else os.environ[name]
    _run(command, given, dict(options)['--workdir'])


def _enroot(words: list[str], state: Path) -> NoReturn:
    containers = state / 'enroot'
    containers.mkdir(exist_ok=True)
    match words:
        case ['create', '--name', name, image]:
            if (containers / name).exists():
                _refuse(f'File already exists: {containers / name}')
            unpack = ['unsquashfs', '-no-progress', '-d', str(containers / name), image]
            sys.exit(subprocess.run(unpack, stdout=subprocess.DEVNULL, check=False).returncode)
        case ['remove', '--force', name]:
            sys.exit(
                subprocess.run(['rm', '-rf', '--', str(containers / name)], check=False).returncode
            )
        case ['start', *rest]:
            _enroot_start(rest, containers)
    _refuse(f'Usage: enroot COMMAND; {words[0]} is none')


def _enroot_start(words: list[str], containers: Path) -> NoReturn:
    options, (name, *command) = _options(words, _ENROOT)
    mounts, environment = [], {'HOME': '/', 'PATH': '/usr/bin:/bin'}
    for option, value in options:
        if option == '--mount':
            # fstab(5), its fields parted by colons.
            if not re.fullmatch(r'[^\s]+:[^\s]+', value) or len(value.split(':')) != 4:
                _refuse(f'Invalid argument: {value}')
            source, target, _, flags = value.split(':')
            if not os.path.exists(source) or not {'bind', 'rbind'} & set(flags.split(',')):
                _refuse(f'enroot-mount: failed to mount: {source} at {target}')
            mounts += [source, target, 'ro' if 'ro' in flags.split(',') else 'rw']
        if option == '--env':
            if not re.fullmatch(r'[A-Za-z_]\w*(=.*)?', value):
                _refuse(f'Invalid argument: {value}')
            key, _, given = value.partition('=')
            environment[key] = given
    if not (containers / name).is_dir():
        _refuse(f'No such file or directory: {containers / name}')
    enter = ['unshare', '--mount', '--', 'sh', '-c', _ENTER, 'enter', str(containers / name)]
    os.execve('/usr/bin/unshare', [*enter, *mounts, '--', *command], environment)


def _run(command: list[str], environment: Mapping[str, str], folder: str) -> NoReturn:
    os.chdir(folder)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        _refuse(f'{command[0]}: {error}')
