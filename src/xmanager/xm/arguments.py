"""Command-line arguments of a program: what scripts may write, and the argv it becomes."""

from __future__ import annotations

import enum
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Union

import attrs

from xmanager.xm.environment import Secret


@attrs.define(slots=False)
class ShellSafeArg:
    """Text that a shell, where one runs the command, receives unquoted, so that `$VAR` expands."""

    arg: str

    def __str__(self) -> NoReturn:
        raise RuntimeError(
            f"{self!r} can't be turned into a string: it would be quoted like any other text. "
            'Pass it as an argument of its own.'
        )


def plain_text(value: Any) -> str:
    """The text of one argument for `execve`, where no shell reads it: nothing is quoted."""
    if isinstance(value, ShellSafeArg):
        return value.arg
    if isinstance(value, enum.Enum):
        return value.name
    return str(value)


def shell_text(value: Any) -> str:
    """The text of one argument for a POSIX shell: quoted, except for `xm.ShellSafeArg`."""
    return value.arg if isinstance(value, ShellSafeArg) else shlex.quote(plain_text(value))


def join_with_equals(flag: str, value: str) -> str:
    return f'{flag}={value}'


# (name, value): a keyword argument, or a positional one when the name is None.
_Item = tuple[str | None, Any]


def _as_items(items: Iterable[_Item]) -> tuple[_Item, ...]:
    return tuple(items)


@attrs.frozen(slots=False, repr=False)
class SequentialArgs:
    """Positional and keyword arguments in the order in which the program receives them.

    Made by `from_collection` and `xm.merge_args`; a keyword occurs at most once. Equal when the
    order is equal too.
    """

    _items: tuple[_Item, ...] = attrs.field(default=(), converter=_as_items)

    @staticmethod
    def from_collection(collection: UserArgs | None) -> SequentialArgs:
        """Reads a mapping as keyword arguments and a sequence as positional ones; None as nothing.

        Raises ValueError for a bare string and TypeError for whatever else is no collection.
        """
        if isinstance(collection, SequentialArgs):
            return collection
        return SequentialArgs(tuple(map(_checked, _read(collection))))

    def to_list(
        self,
        escaper: Callable[[Any], str] = shell_text,
        kwargs_joiner: Callable[[str, str], str] = join_with_equals,
    ) -> list[str]:
        """The arguments as a program receives them.

        `escaper` is given each flag (`--name`) and each value, as they were given, and returns
        their text; by default both are quoted for a shell. `kwargs_joiner` puts the two together.
        True and False become `--name` and `--noname`; None is left out with a warning.
        """
        return [text for item in self._items for text in _render(item, escaper, kwargs_joiner)]

    def to_argv(self) -> list[str]:
        """The arguments for `execve`: byte for byte, nothing quoted."""
        return self.to_list(plain_text)

    def to_dict(self, kwargs_only: bool = False) -> dict[str, Any]:
        """Keyword arguments by name; positional ones, unless `kwargs_only`, as `{text: True}`."""
        shown: dict[str, Any] = {}
        for name, value in self._items:
            if name is not None:
                shown[name] = value
            elif not kwargs_only:
                shown[value.arg if isinstance(value, ShellSafeArg) else str(value)] = True
        return shown

    def rewrite_args(self, rewrite: Callable[[str], str]) -> SequentialArgs:
        """A copy with `rewrite` applied to every value that is a string; names stay."""
        return SequentialArgs(
            (name, rewrite(value) if isinstance(value, str) else value)
            for name, value in self._items
        )

    def remove_args(self, removed_args: str) -> SequentialArgs:
        """A copy without the keyword, and without the positional strings, of that name."""
        return SequentialArgs(
            (name, value)
            for name, value in self._items
            if removed_args != (value if name is None else name)
        )

    def __repr__(self) -> str:
        return f'SequentialArgs(items={self._items!r})'

    def _merged(self, later: SequentialArgs) -> SequentialArgs:
        if not self._items or not later._items:
            return later if later._items else self
        items = list(self._items)
        place = {name: index for index, (name, _) in enumerate(items) if name is not None}
        for name, value in later._items:
            if name in place:
                items[place[name]] = (name, value)
            else:
                items.append((name, value))
        return SequentialArgs(items)


UserArgs = Union[Mapping[Any, Any], Sequence[Any], SequentialArgs]  # noqa: UP007


def as_arguments(args: UserArgs | None) -> SequentialArgs:
    """`SequentialArgs.from_collection` as a plain function, which attrs and mypy need."""
    return SequentialArgs.from_collection(args)


def merge_args(*operands: UserArgs | None) -> SequentialArgs:
    """Joins arguments from left to right.

    A later keyword overrides the value of an earlier one but keeps its place; positional arguments
    append.
    """
    merged = SequentialArgs()
    for operand in operands:
        merged = merged._merged(SequentialArgs.from_collection(operand))
    return merged


def _read(collection: Any) -> Iterator[_Item]:
    """The items of a user's collection, keywords made unique by their text."""
    if collection is None:
        return iter(())
    if isinstance(collection, str):
        raise ValueError(
            f'Arguments are given as {collection!r}, a bare string. Wrap it in a list, '
            f'[{collection!r}], to make it a single argument.'
        )
    if isinstance(collection, Mapping):
        return iter({str(name): value for name, value in collection.items()}.items())
    if isinstance(collection, Sequence) and not isinstance(collection, bytes | bytearray):
        return ((None, value) for value in collection)
    raise TypeError(
        f'Arguments are given as {collection!r}, of type {type(collection).__name__}. '
        'Expected a mapping, a list, a tuple or an xm.SequentialArgs.'
    )


def _checked(item: _Item) -> _Item:
    name, value = item
    for element in _elements(value):
        if isinstance(element, Secret):
            raise TypeError(
                f'{element!r} is given as an argument{f" {name!r}" if name else ""}, which others '
                f'can read. Pass it as env_vars={{{element.name!r}: xm.{element!r}}} instead.'
            )
    return item


def _elements(value: Any) -> Sequence[Any]:
    """The values for which a flag is repeated: those of a flat list, else the one value."""
    if not isinstance(value, list | tuple) or any(isinstance(v, list | tuple) for v in value):
        return (value,)
    return value


def _render(
    item: _Item, escaper: Callable[[Any], str], kwargs_joiner: Callable[[str, str], str]
) -> Iterator[str]:
    name, value = item
    if name is None:
        yield escaper(value)
    elif value is True:
        yield escaper(f'--{name}')
    elif value is False:
        yield escaper(f'--no{name}')
    elif value is None:
        _warn_of_none(name)
    else:
        for element in _elements(value):
            yield kwargs_joiner(escaper(f'--{name}'), escaper(element))


_warned_of: set[str] = set()


def _warn_of_none(name: str) -> None:
    if name in _warned_of:
        return
    _warned_of.add(name)
    import logging  # late: costs several milliseconds, and most scripts never get here

    logging.getLogger(__name__).warning(
        "The argument %s=None is left out. To pass the text, write %s='None'.", name, name
    )
