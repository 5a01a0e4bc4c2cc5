"""The process beside one container: starts it, saves its output, hands signals on, and ends as the container ends.

    python -I -S -c BOOTSTRAP SOURCE FOLDER

`FOLDER` has `container.json`; standard output is the log. A keeper may be killed at any instruction and the engine
restarted: the next keeper of the same folder goes on where it was. It starts in 20 ms, so it imports little.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time

from xmanager.containers.body import SECRET_PREFIX, Spec, create_body
from xmanager.containers.endings import Ending, read_ending, write_ending
from xmanager.containers.frames import Log, pieces, split
from xmanager.containers.host import can_be_signalled, hard_limits
from xmanager.containers.networks import GroupNetwork
from xmanager.containers.remote import NoAnswer, Refused, Remote
from xmanager.containers.signals import HANDLED, KILL

_FATAL = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_PATIENCE = 20.0  # Seconds for an engine that is restarting when a container is to be started.
_REPEAT = 1.0  # A signal is not handed on twice within this time: a group and a process may both be sent it.
_BIRTH = 1.0
_LONGEST_PAUSE = 0.5
_REFUSED = 125  # As `docker run` itself exits.


class Keeper:
    """Keeps one container. `Spec` says what `container.json` holds."""

    def __init__(self, folder: str, output: int = 1) -> None:
        self._folder = folder
        with open(f'{folder}/container.json', 'rb') as file:
            self._spec: Spec = json.load(file)
        self._name = self._spec['name']
        self._remote = Remote(self._spec['engine'])
        self._network = GroupNetwork(self._remote, self._spec, folder)
        self._log = Log(output, f'{folder}/progress')
        self._asked: list[
            signal.Signals
        ] = []  # Signals that came while there was nobody to get them.
        self._sent: dict[int, float] = {}
        self._started_at: float | None = None
        self._is_whole = False  # Its output was saved from its first byte to its last.
        self._has_init = True

    def take(self, signum: int, frame: object = None) -> None:
        """Handles a signal: hands it on, or keeps it until the container runs and the engine answers."""
        wanted = signal.SIGKILL if signum == KILL else signal.Signals(signum)
        now = time.monotonic()
        if now - self._sent.get(wanted, -_REPEAT) < _REPEAT:
            return
        self._sent[wanted] = now
        self._asked.append(wanted)
        if self._started_at is not None:
            self._hand_on()

    def keep(self) -> int:
        """Does all that is left to do for the container. Returns its exit code, 128 + n for signal n."""
        ending = read_ending(self._folder, self._spec['key'])
        if ending is None:
            ending = self._attend()
            if self._log.lost:
                lost = f'{self._log.lost:,} bytes of its output could not be saved: {self._log.trouble}'
                ending = ending.with_reason(lost)
            self._record(ending)
        self._remove()
        return ending.exit_code

    def _attend(self) -> Ending:
        """Follows the container to its end, from wherever it is."""
        pause = 0.005
        try:
            self._meet()
            state = self._create()
            while True:
                ending = self._advance(state)
                if ending is not None:
                    return ending
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                state = self._inspect()
        except Refused as error:
            return Ending(_REFUSED, reason=self._explain(error), refused=True)

    def _advance(self, state: dict[str, object] | None) -> Ending | None:
        """One step from a state of the container; None if there is more to come."""
        if state is None:
            return Ending(
                _REFUSED, reason='lost its container, which somebody else removed', vanished=True
            )
        status = state['Status']
        if status in ('created', 'configured', 'initialized'):
            fatal = self._is_called_off()
            if fatal:
                return Ending(128 + fatal)
            self._run()
        elif status in ('running', 'paused', 'restarting', 'stopping'):
            self._is_running()
            self._catch_up(follow=True)
        else:
            if not self._is_whole:
                self._catch_up(follow=False)
            code = state.get('ExitCode')
            code = code if isinstance(code, int) and 0 <= code < 256 else 255
            return Ending(code, oom=bool(state.get('OOMKilled')))
        return None

    # --- beginning

    def _meet(self) -> None:
        """Finds out what engine it is. One that was never reached is waited for for a while only."""
        latest = time.monotonic() + _PATIENCE
        while True:
            try:
                self._remote.ping()
                return
            except NoAnswer as error:
                if not self._has_begun and (time.monotonic() > latest or self._is_called_off()):
                    raise Refused(
                        0, f'the container engine does not answer ({error}). Is it running?'
                    ) from error
                time.sleep(0.1)

    def _create(self) -> dict[str, object] | None:
        """Creates the container unless it was created before; its state."""
        if self._has_begun:
            return self._inspect()
        fatal = self._is_called_off()
        if fatal:
            return {'Status': 'created'}
        with self._network.turn():
            self._network.make()
            try:
                self._post_create()
            except Refused as error:
                if error.status != 409:
                    raise
                return self._found()
        return {'Status': 'created'}

    def _post_create(self) -> None:
        there = [mount for mount in self._spec['optional_mounts'] if os.path.isdir(mount['Source'])]
        missing = [n for n in self._spec['secrets'] if SECRET_PREFIX + n not in os.environ]
        if missing:
            raise Refused(0, f'the secret for {missing[0]} is not set where its supervisor runs')
        body = create_body(
            self._spec,
            self._remote.kind,
            os.environ,
            mounts=there,
            limits=hard_limits(),
            init=self._has_init,
        )
        try:
            self._remote.call('POST', '/containers/create', {'name': self._name}, body)
        except Refused as error:
            if not self._is_for_want_of_init(error):
                raise
            self._has_init = False
            self._post_create()
            return
        open(f'{self._folder}/created', 'wb').close()

    def _found(self) -> dict[str, object] | None:
        """The state of a container of our name, which must be ours: an earlier keeper died as it was created."""
        found = self._remote.inspect(self._name)
        if found is None:
            return None
        labels = found['Config'].get('Labels') or {}
        if labels.get('xmanager.key') != self._spec['key']:
            raise Refused(
                409, f'there is a container {self._name} already that is not ours. Remove it.'
            )
        open(f'{self._folder}/created', 'wb').close()
        state: dict[str, object] = found['State']
        return state

    def _run(self) -> None:
        """Attaches, starts, and saves what comes until there is nothing more."""
        answer = self._remote.attach(self._name)
        try:
            try:
                self._remote.call('POST', f'/containers/{self._name}/start')
            except Refused as error:
                if not self._is_for_want_of_init(error):
                    raise
                self._has_init = False
                self._remote.call('DELETE', f'/containers/{self._name}', {'force': '1'})
                self._post_create()
                return
            self._is_running()
            try:
                for stream, data in split(pieces(answer.receive), raw=self._is_terminal):
                    self._log.write(stream, data)
            except NoAnswer:
                return
        finally:
            answer.close()
        self._is_whole = self._waited()

    def _waited(self) -> bool:
        """Whether the container has ended when its streams do. One that only closed them goes on."""
        with contextlib.suppress(NoAnswer, Refused):
            self._remote.wait(self._name, timeout=2.0)
            return True
        return False

    # --- while it runs

    def _catch_up(self, *, follow: bool) -> None:
        """Saves what the engine's own record has more than the log; to the end of the container if `follow`."""
        try:
            answer = self._remote.logs(self._name, follow=follow)
            try:
                self._log.append_rest(split(answer.pieces(), raw=self._is_terminal))
                self._is_whole = self._is_whole or not follow
            finally:
                answer.close()
        except (NoAnswer, Refused):
            return  # The engine is being restarted, or the container was removed: the next look tells.

    def _is_running(self) -> None:
        if self._started_at is None:
            self._started_at = time.monotonic()
        self._hand_on()

    def _hand_on(self) -> None:
        """Sends the container what was asked for and not sent yet."""
        while self._asked:
            wanted = self._asked[0]
            try:
                if wanted != signal.SIGKILL:
                    self._wait_for_birth(wanted)
                self._remote.call('POST', f'/containers/{self._name}/kill', {'signal': wanted.name})
            except NoAnswer:
                return  # Sent again as soon as the engine answers.
            except Refused:
                pass  # It has ended.
            if self._asked and self._asked[0] == wanted:
                del self._asked[0]

    def _wait_for_birth(self, wanted: signal.Signals) -> None:
        """Waits until the first process of the container can be signalled: before that a signal is lost on it.

        Linux drops what is sent to process 1 of a namespace unless it has said what it does with it.
        """
        born = self._started_at or 0.0
        if time.monotonic() - born > _BIRTH:
            return
        found = self._remote.inspect(self._name)
        pid = found['State'].get('Pid') if found else 0
        while pid and time.monotonic() - born < _BIRTH:
            if can_be_signalled(pid, wanted):
                return
            time.sleep(0.005)

    # --- ending

    def _record(self, ending: Ending) -> None:
        while True:
            try:
                write_ending(self._folder, self._spec['key'], ending)
                return
            except FileNotFoundError:
                return  # The folder was removed by the user: there is nobody to tell.
            except OSError:
                time.sleep(
                    _LONGEST_PAUSE
                )  # No disk: nothing is removed before the end is recorded.

    def _remove(self) -> None:
        """Removes the container, and the network that its unit has for itself once no other is there."""
        with contextlib.suppress(NoAnswer, Refused):  # `xmanager gc` removes what is left.
            self._remote.call('DELETE', f'/containers/{self._name}', {'force': '1', 'v': '1'})
        with contextlib.suppress(NoAnswer, Refused):
            self._network.remove_if_last()

    # --- what it asks itself

    @property
    def _has_begun(self) -> bool:
        """The container was created, by this keeper or an earlier one."""
        return os.path.exists(f'{self._folder}/created')

    @property
    def _is_terminal(self) -> bool:
        return bool(self._spec['create'].get('Tty'))

    def _is_for_want_of_init(self, error: Refused) -> bool:
        """The engine has no program that could be process 1 of the container (docker-init, catatonit)."""
        names = ('docker-init', 'catatonit', 'container-init')
        return self._has_init and any(name in error.said for name in names)

    def _is_called_off(self) -> int:
        """The signal by which it was told to end before it began; 0 if there is none."""
        return next((s for s in self._asked if s in _FATAL or s == signal.SIGKILL), 0)

    def _inspect(self) -> dict[str, object] | None:
        """The state of the container, None if it is gone. Waits for an engine that is restarted."""
        pause = 0.05
        while True:
            try:
                found = self._remote.inspect(self._name)
                return found['State'] if found is not None else None
            except NoAnswer:
                pass
            except Refused as error:
                if error.status < 500:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _explain(self, error: Refused) -> str:
        said = error.said.rstrip('.')
        if error.status == 404 and 'image' in said.lower():
            image = self._spec['create']['Image']
            return f'could not be started: its image {image} is not there any more. Launch again, which packages it'
        if not error.status:
            return f'could not be started: {said}'
        return f'could not be started: {self._remote.kind.capitalize()} says: {said}'


def main() -> None:
    """Keeps the container of the folder that is named on the command line, and exits with its exit code."""
    folder = sys.argv[1]
    keeper = Keeper(folder)
    for signum in HANDLED:
        signal.signal(signum, keeper.take)
    # Whoever started this process has blocked them, so that none is lost before it can be handled.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    # An earlier keeper whose runner was killed may still be at work: it is waited for.
    lock = os.open(f'{folder}/lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code = keeper.keep()
    os._exit(code)
