"""Programs that packaging starts and listens to: none of them outlives the packaging that asked for it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from xmanager.errors import PackagingError

if TYPE_CHECKING:
    import subprocess

_GRACE: Final = (
    10.0  # Seconds that a program has to end by itself: a builder tells its engine to stop.
)

_lock = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()


def run(
    command: Sequence[str],
    environ: Mapping[str, str],
    hear: Callable[[str], None],
    *,
    cwd: str | os.PathLike[str] | None = None,
) -> int:
    """Runs a program, tells `hear` each line of what it prints on either stream, and returns its exit code.

    However this ends, Ctrl-C and an error in `hear` included, the program has ended. Raises PackagingError if it can't
    be started.
    """
    import subprocess

    try:
        child = subprocess.Popen(
            command,
            env=environ,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise PackagingError(f"{command[0]} can't be run: {error.strerror}.") from None
    with _lock:
        _running.add(child)
    try:
        assert child.stdout is not None
        with child.stdout as lines:
            for line in lines:
                hear(line.decode(errors='replace').rstrip('\r\n'))
        return child.wait()
    finally:
        end(child)
        with _lock:
            _running.discard(child)


@atexit.register
def end_all() -> None:
    """Ends what is still run: only the main thread hears of Ctrl-C, and doesn't wait for the others at its end."""
    with _lock:
        children = tuple(_running)
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """Asks a program to end, waits a while, and kills it if it doesn't."""
    import subprocess

    if child.poll() is None:
        child.terminate()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
