"""Brings what units need to a cluster in a thread of its own, so that nobody waits for a slow connection."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterable
from typing import Final

from xmanager.backend import Deferred, Rejected
from xmanager.backends.slurm.remote.channel import Channel, RefusedError
from xmanager.backends.slurm.remote.syncing import Syncer
from xmanager.backends.slurm.remote.translation import (
    Code,
    Environment,
    Image,
    Interpreter,
    Need,
    StaysHereError,
)
from xmanager.errors import UnreachableError, XManagerError

_PAUSE: Final = 1.0  # Seconds until it is worth asking again.
_LONG_PAUSE: Final = 60.0
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Copier:
    """Each need is brought once, one after the other; a failed one is tried again when it is asked for again."""

    def __init__(self, open_channel: Callable[[], Channel]) -> None:
        self._open_channel = open_channel
        self._change = threading.Condition()
        self._waiting: dict[Need, None] = {}
        self._there: set[Need] = set()
        self._failed: dict[Need, Deferred | Rejected] = {}
        self._unreachable: UnreachableError | None = None
        self._step = ''
        self._thread: threading.Thread | None = None
        self._channel: Channel | None = None
        self._closing = False

    def want(self, needs: Iterable[Need], seconds: float) -> None:
        """Has them brought, and waits so long for it. Raises UnreachableError if there was no connection lately."""
        with self._change:
            self._failed = {}
            missing = [one for one in needs if one not in self._there]
            self._waiting |= dict.fromkeys(missing)
            if self._waiting and self._thread is None:
                self._thread = threading.Thread(target=self._run, name='copier', daemon=True)
                self._thread.start()
            self._change.wait_for(lambda: self._thread is None or self._closing, seconds)
            error, self._unreachable = self._unreachable, None
            if error is not None:
                raise error

    def refusal(self, needs: Iterable[Need]) -> Deferred | Rejected | None:
        """Why what needs these can't be submitted now; None if all is there."""
        with self._change:
            for one in needs:
                if one in self._failed:
                    return self._failed[one]
                if one not in self._there:
                    step = f': {self._step}' if self._step else ''
                    made = isinstance(one, Environment | Interpreter)
                    what = f'making {_name(one)} on' if made else f'copying {_name(one)} to'
                    return Deferred(f'{what} the cluster{step}', _PAUSE)
        return None

    def close(self) -> None:
        with self._change:
            self._closing = True
            self._change.notify_all()
            thread, channel = self._thread, self._channel
        if channel is not None:
            channel.close()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        with self._open_channel() as channel:
            self._channel = channel
            while (need := self._next()) is not None:
                self._bring(need, channel)

    def _next(self) -> Need | None:
        with self._change:
            if self._waiting and not self._closing and self._unreachable is None:
                return next(iter(self._waiting))
            self._waiting, self._thread, self._channel = {}, None, None
            self._change.notify_all()
            return None

    def _bring(self, need: Need, channel: Channel) -> None:
        failure: Deferred | Rejected | None = None
        unreachable: UnreachableError | None = None
        try:
            Syncer(channel, self._tell).bring(need)
        except UnreachableError as error:
            unreachable = error
        except RefusedError as error:
            failure = _refused(need, channel.login, error)
        except (StaysHereError, XManagerError) as error:
            failure = _failed(need, channel.login, error)
        with self._change:
            del self._waiting[need]
            self._step = ''
            self._unreachable = unreachable
            if failure is not None:
                self._failed[need] = failure
            elif unreachable is None:
                self._there.add(need)

    def _tell(self, step: str) -> None:
        self._step = step


def _refused(need: Need, login: str, error: RefusedError) -> Deferred | Rejected:
    if error.errno in _FULL:
        return Deferred(f'no room for {_name(need)} on {login}: {error}', _LONG_PAUSE)
    return _failed(need, login, error)


def _failed(need: Need, login: str, error: Exception) -> Rejected:
    return Rejected(f'{_name(need)} can not be had on {login}: {error}')


def _name(need: Need) -> str:
    if isinstance(need, Code):
        return 'its code'
    if isinstance(need, Image):
        return 'its image'
    return 'its Python environment' if isinstance(need, Environment) else 'its Python'
