"""Labels by which frameworks that launch on a user's behalf make themselves known."""

from __future__ import annotations

import contextvars
import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

_Decorated = TypeVar('_Decorated', bound=Callable[..., Any])

_LABEL = re.compile(r'[a-zA-Z0-9_-]+')
_active: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar('labels', default=())


def active_framework_labels() -> tuple[str, ...]:
    """The labels declared around the caller, outermost first."""
    return _active.get()


class framework_label:
    """Marks everything added in its scope as made by the framework `label`.

    A context manager, and a decorator of functions, async ones included. A label that is active
    already is not added twice. Raises ValueError unless `label` is made of ASCII letters, digits,
    `_` and `-`, and TypeError when it decorates a generator function, whose body runs later.
    """

    def __init__(self, label: str) -> None:
        if not _LABEL.fullmatch(str(label)):
            raise ValueError(
                f'xm.framework_label({label!r}): a label is one or more ASCII letters, digits, '
                'underscores and hyphens.'
            )
        self._label = label
        self._tokens: list[contextvars.Token[tuple[str, ...]]] = []

    def __enter__(self) -> None:
        labels = _active.get()
        added = labels if self._label in labels else (*labels, self._label)
        self._tokens.append(_active.set(added))

    def __exit__(self, *exc_info: object) -> None:
        _active.reset(self._tokens.pop())

    def __call__(self, function: _Decorated) -> _Decorated:
        label = self._label
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"xm.framework_label({label!r}) can't decorate {function!r}: the body of a "
                'generator runs after the call. Use `with xm.framework_label(…)` inside it.'
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def labelled_coroutine(*args: Any, **kwargs: Any) -> Any:
                with framework_label(label):
                    return await function(*args, **kwargs)

            return cast(_Decorated, labelled_coroutine)

        @functools.wraps(function)
        def labelled(*args: Any, **kwargs: Any) -> Any:
            with framework_label(label):
                return function(*args, **kwargs)

        return cast(_Decorated, labelled)
