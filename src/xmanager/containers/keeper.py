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
from xmanager.containers.courier import Courier
from xmanager.containers.endings import (
    Ending,
    mark_removed,
    note,
    note_keeper,
    read_ending,
    write_ending,
)
from xmanager.containers.frames import Log, pieces, split
from xmanager.containers.host import hard_limits
from xmanager.containers.networks import GroupNetwork, is_for_want_of_addresses
from xmanager.containers.remote import NoAnswer, Refused, Remote
from xmanager.containers.signals import AGAIN, HANDLED

_PATIENCE = 20.0  # Seconds for an engine that is restarting when a container is to be started.
_ADDRESSES = 300.0  # Seconds for other units to end whose networks have all the addresses.
_LONGEST_PAUSE = 0.5
_MOST_REFUSALS = 5  # Of the rest of the output, after which the container ends without it,
_MOST_FAILURES = 240  # and of answers that the engine has a trouble of its own.
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
        self._courier = Courier(self._remote, self._name)
        self._output = output
        self._log: Log
        self._refusals = self._failures = 0
        self._is_whole = False  # Its output was saved from its first byte to its last.
        self._has_init = True

    def take(self, signum: int, frame: object = None) -> None:
        """Handles a signal."""
        self._courier.take(signum, frame)

    def keep(self) -> int:
        """Does all that is left to do for the container. Returns its exit code, 128 + n for signal n."""
        ending = read_ending(self._folder, self._spec['key'])
        if ending is None:
            # Not before: while another keeper is at work, the log and what is noted of it change.
            self._log = Log(self._output, f'{self._folder}/progress')
            ending = self._attend()
            if self._log.lost:
                lost = f'{self._log.lost:,} bytes of its output could not be saved: {self._log.trouble}'
                ending = ending.with_reason(lost)
            self._record(ending)
        self._remove()
        return ending.exit_code

    def _attend(self) -> Ending:
        """Follows the container to its end, from wherever it is."""
        try:
            self._meet()
            return self._follow()
        except Refused as error:
            return Ending(_REFUSED, reason=self._explain(error), refused=True)

    def _follow(self) -> Ending:
        pause, began, latest, waits = 0.005, time.monotonic(), float('inf'), False
        while True:
            try:
                ending = self._advance(self._create())
                if ending is not None:
                    return ending
            except NoAnswer as error:
                # The engine broke off: the next look tells how far it came.
                latest = min(latest, time.monotonic() + _PATIENCE)
                if not self._has_begun and time.monotonic() > latest:
                    raise Refused(0, f'the container engine breaks off ({error})') from error
            except Refused as error:
                late = time.monotonic() > began + _ADDRESSES
                if late or self._has_begun or not is_for_want_of_addresses(error.said):
                    raise
                if not waits:
                    note(f'waits for a network: {error.said}')
                waits = True
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _advance(self, state: dict[str, object] | None) -> Ending | None:
        """One step from a state of the container; None if there is more to come."""
        if state is None:
            return Ending(
                _REFUSED, reason='lost its container, which somebody else removed', vanished=True
            )
        status = state['Status']
        if status in ('created', 'configured', 'initialized'):
            if self._courier.called_off:
                return Ending(128 + self._courier.called_off)
            self._run()
        elif status in ('running', 'paused', 'restarting', 'stopping'):
            self._courier.deliver()
            self._catch_up(follow=True)
        else:
            is_whole = self._is_whole or self._catch_up(follow=False)
            if not is_whole and not self._is_hopeless:
                return None
            code = state.get('ExitCode')
            code = code if isinstance(code, int) and 0 <= code < 256 else 255
            lost = '' if is_whole else 'the engine did not give the rest of its output'
            return Ending(code, oom=bool(state.get('OOMKilled')), reason=lost)
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
                if not self._has_begun and (time.monotonic() > latest or self._courier.called_off):
                    raise Refused(
                        0, f'the container engine does not answer ({error}). Is it running?'
                    ) from error
                time.sleep(0.1)

    def _create(self) -> dict[str, object] | None:
        """Creates the container unless it was created before; its state."""
        if self._has_begun:
            return self._inspect()
        if self._courier.called_off:
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
                os.unlink(f'{self._folder}/created')
                self._remote.call('DELETE', f'/containers/{self._name}', {'force': '1'})
                self._post_create()
                return
            self._courier.deliver()
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

    def _catch_up(self, *, follow: bool) -> bool:
        """Saves what the engine's own record has more than the log; to the end of the container if `follow`.

        True if there was all of it.
        """
        try:
            answer = self._remote.logs(self._name, follow=follow)
            try:
                self._log.append_rest(split(answer.pieces(), raw=self._is_terminal))
                self._is_whole = self._is_whole or not follow
            finally:
                answer.close()
        except NoAnswer:
            pass  # The engine is being restarted: the next look tells.
        except (
            Refused
        ) as error:  # The container was removed, or the engine has not all that it needs.
            self._refusals += error.status < 500
            self._failures += 1
        return self._is_whole

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
        try:
            self._delete()
            with contextlib.suppress(Refused):  # Another unit's container may be in it by hand.
                self._network.remove_if_last()
        except (NoAnswer, Refused) as error:
            # One more keeper is started for it; what that leaves `xmanager gc` removes.
            note(f'could not remove {self._name}: {error}')
            return
        mark_removed(self._folder)

    def _delete(self) -> None:
        try:
            query = {'force': '1', 'v': '1'}
            self._remote.call('DELETE', f'/containers/{self._name}', query)
        except Refused as error:
            if error.status not in (404, 409):  # It is gone, or about to be.
                raise

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

    @property
    def _is_hopeless(self) -> bool:
        """The engine was asked often enough for the rest of the output."""
        return self._refusals >= _MOST_REFUSALS or self._failures >= _MOST_FAILURES

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
    note_keeper(folder)
    keeper = Keeper(folder)
    for signum in HANDLED | {AGAIN}:
        signal.signal(signum, keeper.take)
    # Whoever started this process has blocked them, so that none is lost before it can be handled.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
    # An earlier keeper whose runner was killed may still be at work: it is waited for.
    lock = os.open(f'{folder}/lock', os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code = keeper.keep()
    os._exit(code)
