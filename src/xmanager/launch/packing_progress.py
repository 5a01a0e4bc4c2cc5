"""What a person sees while executables are packaged: a line for each, with what is done for it; on stderr."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, Self, TextIO

from xmanager.store.wording import duration

_SILENCE: Final = 1.0  # Seconds in which nothing is shown: most packaging is done by then.
_REDRAW: Final = 0.1
_SHOWN: Final = 8
# Steps that are worth a line where nothing can be redrawn.
_LONG: Final = frozenset(
    {'pulling', 'building', 'uploading', 'downloading', 'resolving', 'loading'}
)


class PackingProgress:
    """Draws while its context is open. `tell` may be called from any thread.

    On a terminal: a line for each executable at work, redrawn, and gone in the end. Elsewhere: a line when something
    begins that takes long.
    """

    def __init__(
        self, err: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._err = sys.stderr if err is None else err
        self._clock = clock
        self._live = self._err.isatty() and os.environ.get('TERM') != 'dumb'
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._steps: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._said: set[tuple[str, str]] = set()
        self._drawn = 0  # Lines on the screen.
        self._thread: threading.Thread | None = None
        self._opened = clock()

    def __enter__(self) -> Self:
        if self._live:
            self._thread = threading.Thread(target=self._redraw, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        with self._lock:
            self._live = False
            self._write(self._erased())

    def tell(self, name: str, step: str) -> None:
        """What is being done for an executable from now on; an empty text means done."""
        with self._lock:
            if self._ended.is_set():
                return
            if not step:
                self._steps.pop(name, None)
                self._began.pop(name, None)
                return
            self._steps[name] = step
            self._began.setdefault(name, self._clock())
            if not self._live:
                self._say_once(name, step)

    def draw(self) -> None:
        """Draws what is at work now, over what was drawn before."""
        with self._lock:
            if not self._ended.is_set() and self._clock() - self._opened >= _SILENCE:
                self._write(self._erased() + self._block())

    def _redraw(self) -> None:
        while not self._ended.wait(_REDRAW):
            self.draw()

    def _block(self) -> str:
        # A line that is longer than the terminal is wide could not be wiped.
        width = shutil.get_terminal_size().columns - 1
        names = list(self._steps)
        shown = names[:_SHOWN]
        column = max(map(len, shown), default=0)
        lines = [f'{name:{column}}  {self._took(name):>6}  {self._steps[name]}' for name in shown]
        if len(names) > len(shown):
            lines.append(f'… and {len(names) - len(shown)} more')
        self._drawn = len(lines)
        return ''.join(f'\x1b[2m{_one_line(line)[:width]}\x1b[0m\n' for line in lines)

    def _took(self, name: str) -> str:
        return duration(self._clock() - self._began[name])

    def _erased(self) -> str:
        lines, self._drawn = self._drawn, 0
        return f'\x1b[{lines}F\x1b[J' if lines else ''

    def _say_once(self, name: str, step: str) -> None:
        words = step.split()
        if words[0] not in _LONG or (name, words[0]) in self._said:
            return
        self._said.add((name, words[0]))
        self._write(f'{name}: {_one_line(step)}\n')

    def _write(self, text: str) -> None:
        if not text:
            return
        try:
            self._err.write(text)
            self._err.flush()
        except OSError:  # The person has gone; packaging goes on.
            self._live = False


def _one_line(text: str) -> str:
    return ''.join(character if character.isprintable() else ' ' for character in text)
