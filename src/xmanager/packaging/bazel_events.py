"""Bazel's Build Event Protocol, read from its JSON file: what each target gave, and what failed actions printed.

https://bazel.build/remote/bep. Nothing in the file is trusted to be there, or to be of the kind that it should be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs

_SCHEME = 'file'


@attrs.frozen
class BuildEvents:
    """What of one build matters here. Labels are as `plain_label` writes them."""

    outputs: Mapping[str, tuple[str, ...]]
    """The files of each target that was built, as absolute paths; those that are elsewhere as the URIs they have."""
    aborted: Mapping[str, str]
    """Why a target was not built, in Bazel's words."""
    printed: tuple[str, ...]
    """Files with what failed actions printed."""


def plain_label(label: str) -> str:
    """The one way to write a label: `//a/b` is `//a/b:b`, and `@//a:b` or `:b` is of the main repository."""
    repository, slashes, path = label.lstrip('@').rpartition('//')
    if not slashes:
        repository, path = '', label.lstrip('@')
    package, colon, target = path.partition(':')
    if not colon:
        target = package.rpartition('/')[2]
    return f'{repository}//{package}:{target}'


def read_events(lines: Iterable[bytes]) -> BuildEvents:
    """Reads an event file line by line; what can't be read is passed over."""
    sets: dict[str, Mapping[str, Any]] = {}
    completed: dict[str, list[str]] = {}
    aborted: dict[str, str] = {}
    printed: list[str] = []
    for event in _events(lines):
        key = _mapping(event, 'id')
        if 'namedSet' in key:
            sets[_text(_mapping(key, 'namedSet'), 'id')] = _mapping(event, 'namedSetOfFiles')
        elif 'targetCompleted' in key:
            label = plain_label(_text(_mapping(key, 'targetCompleted'), 'label'))
            if 'completed' in event:
                completed[label] = list(_default_sets(_mapping(event, 'completed')))
            else:
                aborted[label] = _text(_mapping(event, 'aborted'), 'description')
        elif 'actionCompleted' in key:
            printed += _printed(_mapping(event, 'action'))
    outputs = {label: tuple(_files(ids, sets)) for label, ids in completed.items()}
    return BuildEvents(outputs, aborted, tuple(printed))


def _events(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # The last line of a build that was killed is half a line.
        if isinstance(event, dict):
            yield event


def _default_sets(completed: Mapping[str, Any]) -> Iterator[str]:
    if completed.get('success') is not True:
        return
    for group in _mappings(completed, 'outputGroup'):
        if _text(group, 'name') == 'default':
            for file_set in _mappings(group, 'fileSets'):
                yield _text(file_set, 'id')


def _files(ids: list[str], sets: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The files of sets of sets, each once; a set that names itself does no harm."""
    seen_sets: set[str] = set()
    seen: set[str] = set()
    waiting = list(reversed(ids))
    while waiting:
        name = waiting.pop()
        if name in seen_sets:
            continue
        seen_sets.add(name)
        file_set = sets.get(name, {})
        for file in _mappings(file_set, 'files'):
            path = _path(_text(file, 'uri'))
            if path and path not in seen:
                seen.add(path)
                yield path
        waiting += [_text(one, 'id') for one in reversed(_mappings(file_set, 'fileSets'))]


def _printed(action: Mapping[str, Any]) -> Iterator[str]:
    for stream in ('stdout', 'stderr'):
        path = _path(_text(_mapping(action, stream), 'uri'))
        if path.startswith('/'):
            yield path


def _path(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ''
    path = unquote(parts.path, errors='surrogateescape')
    if parts.scheme != _SCHEME:
        return uri
    return '' if '\0' in path else path


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _mappings(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ''
