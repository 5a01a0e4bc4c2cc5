"""The scripts that run on the cluster: what `sbatch` is given, and what each element is run by."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PARTS = ('words.sh', 'program.sh', 'element.sh')


@cache
def element() -> bytes:
    """The text of `element.sh` with its parts, without comments."""
    return b''.join(_without_comments(name) for name in _PARTS)


@cache
def alone(shell: str) -> bytes:
    """The batch script of an array, or of a unit of one process: the element's own text.

    Arguments: `array` or `alone`, the batch's folder, and 0. Whoever reads setup lines must be bash.
    """
    return f'#!{shell}\n'.encode() + element()


@cache
def gang(shell: str) -> bytes:
    """The batch script of a unit that `srun` starts: it runs `element.sh` of the batch's folder for each component.

    Arguments: the batch's folder and the number of components. Their elements write their own records. The output of
    replicas comes together in one `output.log`, each line after the number of the replica that wrote it.
    """
    return f'#!{shell}\n'.encode() + _without_comments('gang.sh').replace(
        b'/bin/sh', shell.encode()
    )


def shell_for(has_setup: bool) -> str:
    """Lines of setup are bash's (`module load` often is a function of it); anything else is for any shell."""
    return '/bin/bash' if has_setup else '/bin/sh'


def _without_comments(name: str) -> bytes:
    lines = Path(__file__).with_name(name).read_text(encoding='utf-8').splitlines()
    kept = [line for line in lines if line and not line.lstrip().startswith('#')]
    return ('\n'.join(kept) + '\n').encode()
