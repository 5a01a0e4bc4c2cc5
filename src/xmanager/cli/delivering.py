"""How news reaches a command or a webhook. Nothing here raises: what went wrong comes back as a sentence."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from typing import IO, Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from xmanager.launch.notify_target import Command, Webhook, public_part
from xmanager.store.wording import signal_name

SECONDS: Final = 10.0  # That a delivery may take.


def deliver(
    target: Command | Webhook,
    body: bytes,
    marks: Mapping[str, str],
    headers: Mapping[str, str],
    seconds: float = SECONDS,
) -> str:
    """Hands `body` over, a command also the variables `marks`, a webhook `headers`; returns what went wrong, or ''."""
    if isinstance(target, Webhook):
        return _post(target, body, headers, seconds)
    return _run(target, body, marks, seconds)


def _run(command: Command, body: bytes, marks: Mapping[str, str], seconds: float) -> str:
    try:
        process = subprocess.Popen(
            command.argv,
            stdin=subprocess.PIPE,
            cwd=command.cwd,
            env={**os.environ, **marks},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f'{command.name} could not be started in {command.cwd}: {reason}'
    try:
        process.communicate(body, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f'{command.name} did not end within {seconds:g} s and was killed'
    finally:
        if process.returncode is None:  # It hangs, or we are interrupted.
            _kill(process)
    return _ending(command.name, process.returncode)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a command with all that it has started and that has not left its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _ending(name: str, code: int) -> str:
    if code < 0:
        return f'{name} was killed by {signal_name(-code)}'
    return f'{name} exited with code {code}' if code else ''


def _post(webhook: Webhook, body: bytes, headers: Mapping[str, str], seconds: float) -> str:
    """Posts from a thread that is left alone when it is late: no time-out of urllib's covers a name's resolution."""
    found: list[str] = []
    thread = threading.Thread(
        target=lambda: found.append(_answer(webhook, body, headers, seconds)), daemon=True
    )
    thread.start()
    thread.join(seconds)
    return found[0] if found else f'{webhook.name} did not answer within {seconds:g} s'


def _answer(webhook: Webhook, body: bytes, headers: Mapping[str, str], seconds: float) -> str:
    from http.client import HTTPException

    request = Request(webhook.url, body, dict(headers), method='POST')
    try:
        # A little more than the thread is given, so that one sentence tells of what is late.
        with build_opener(_StayInScheme).open(request, timeout=seconds + 1):
            return ''
    except _LeftSchemeError as error:
        return f'{webhook.name} redirects to {error}: give that URL if you trust it'
    except HTTPError as error:
        with error:
            return f'{webhook.name} answered {error.code} {error.reason}'
    except URLError as error:
        reason = getattr(error.reason, 'strerror', None) or error.reason
        return f'{webhook.name} could not be reached: {reason}'
    except (OSError, ValueError, HTTPException) as error:  # ValueError: a host name that is none.
        return f'{webhook.name} broke off: {type(error).__name__}'


class _LeftSchemeError(Exception):
    """A redirect to another scheme: to a file, or from an encrypted connection to a plain one."""


class _StayInScheme(HTTPRedirectHandler):
    """Follows redirects within a scheme; those that ask for the same request again (307, 308) with the body."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme != req.type:
            fp.close()
            raise _LeftSchemeError(public_part(newurl))
        if code in (307, 308):
            return Request(newurl, req.data, req.headers, method=req.get_method())
        return super().redirect_request(req, fp, code, msg, headers, newurl)
