"""A webhook of the standard library, which remembers what it was told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Post(NamedTuple):
    method: str
    path: str
    headers: Message
    body: bytes


class Webhook(ThreadingHTTPServer):
    """Answers `/500` with 500, `/hang` never, `/again?WHERE` and `/see?WHERE` with a redirect, all else with 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(('127.0.0.1', 0), _Handler)
        self.posts: list[Post] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_address[1]}'

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that no longer listens is nothing to tell of."""


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        path, _, where = self.path.partition('?')
        self.server.posts.append(Post(self.command, self.path, self.headers, body))
        if path == '/hang':
            self.server.closing.wait()
            return
        self.send_response({'/500': 500, '/again': 307, '/see': 302}.get(path, 204))
        if path in ('/again', '/see'):
            self.send_header('Location', where)
        self.send_header('Content-Length', '0')
        self.end_headers()

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[Webhook]:
    """A webhook that listens on a port of this machine."""
    with Webhook() as webhook:
        thread = threading.Thread(target=webhook.serve_forever, kwargs={'poll_interval': 0.02})
        thread.start()
        try:
            yield webhook
        finally:
            webhook.closing.set()
            webhook.shutdown()
            thread.join()
