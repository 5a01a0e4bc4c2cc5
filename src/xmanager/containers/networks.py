"""The network that the containers of one unit have for themselves: made by the first keeper, removed by the last."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from xmanager.containers.body import Spec
from xmanager.containers.remote import Remote

_NO_ADDRESSES = ('address pool', 'could not find free subnet')


def is_for_want_of_addresses(said: str) -> bool:
    """Whether an engine says that its networks have taken all the addresses that it may give to them."""
    return any(words in said for words in _NO_ADDRESSES)


class GroupNetwork:
    """The network that a keeper's `container.json` names, if it names one. `folder` is the keeper's."""

    def __init__(self, remote: Remote, spec: Spec, folder: str) -> None:
        self._remote = remote
        self._network = spec['network']
        self._key = spec['key']
        self._lock = os.path.join(os.path.dirname(os.path.dirname(folder)), '.network')

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """The keepers of one unit make it, enter it and remove it in turns: an engine may make two of one name."""
        if self._network is None:
            yield
            return
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def make(self) -> None:
        """Makes it unless it is there. To be called in a turn."""
        if self._network is None or self._remote.has_network(self._network['name']):
            return
        body = {
            'Name': self._network['name'],
            'CheckDuplicate': True,
            'Labels': self._network['labels'],
        }
        self._remote.call('POST', '/networks/create', None, body)

    def remove_if_last(self) -> None:
        """Removes it when the unit has no container any more."""
        if self._network is None:
            return
        with self.turn():
            if not self._remote.containers(f'xmanager.key={self._key}'):
                self._remote.call('DELETE', f'/networks/{self._network["name"]}')
