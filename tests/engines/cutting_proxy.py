"""A proxy on loopback that cuts each connection after some bytes, in either direction, chosen by a seed."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import threading
from typing import Final

_FROM_CLIENT: Final = 0
_FROM_SERVER: Final = 1


class CuttingProxy:
    """Passes bytes on to a port of this machine; most connections don't get old."""

    def __init__(self, port: int, seed: int, survive: float = 0.5) -> None:
        self._target = port
        self._chance = random.Random(seed)
        self._survive = survive
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.host = f'127.0.0.1:{self._listener.getsockname()[1]}'
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self.cuts = 0

    def __enter__(self) -> CuttingProxy:
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        # Accepting ends at the next connection.
        socket.create_connection(self._listener.getsockname()).close()
        self._accepting.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._stopping.is_set():
                client.close()
                return
            lives = self._chance.random() < self._survive
            limit = 2**62 if lives else int(10 ** self._chance.uniform(1, 6.3))
            direction = self._chance.choice((_FROM_CLIENT, _FROM_SERVER))
            rude = self._chance.random() < 0.5
            work = threading.Thread(target=self._pass_on, args=(client, direction, limit, rude))
            self._threads.append(work)
            work.start()

    def _pass_on(self, client: socket.socket, direction: int, limit: int, rude: bool) -> None:
        server = socket.create_connection(('127.0.0.1', self._target))
        with client, server, contextlib.suppress(OSError):
            pairs = {client: (server, _FROM_CLIENT), server: (client, _FROM_SERVER)}
            with selectors.DefaultSelector() as ready:
                for one in pairs:
                    ready.register(one, selectors.EVENT_READ)
                while not self._stopping.is_set():
                    for key, _ in ready.select(0.1):
                        assert isinstance(key.fileobj, socket.socket)
                        other, way = pairs[key.fileobj]
                        data = key.fileobj.recv(65536)
                        if not data:
                            return
                        if way == direction:
                            data, limit = data[:limit], limit - len(data)
                        other.sendall(data)
                        if limit <= 0:
                            self._cut(client, rude)
                            return

    def _cut(self, client: socket.socket, rude: bool) -> None:
        self.cuts += 1
        if rude:
            # Resets the connection in place of closing it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
