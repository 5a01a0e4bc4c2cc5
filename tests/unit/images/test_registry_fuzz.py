"""Whatever a registry answers, it is used as the protocol says or refused in a sentence; nothing else comes out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.images import faulty_registry as faulty
from tests.unit.images.faulty_registry import FaultyRegistry, replies
from tests.unit.images.registry_desk import client, described

from xmanager.errors import PackagingError
from xmanager.images.values import INDEXES, MANIFESTS, OCI_MANIFEST, canonical_json, digest_of

DATA = b'a blob' * 1000

_LINE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        'Location': _LINE | st.sampled_from(['/v2/x', '?a=b', '//', 'http://[', '/\\', '#']),
        'Range': _LINE | st.integers(-5, 9000).map('0-{}'.format),
        'Content-Range': _LINE | st.integers(-5, 9000).map('bytes {}-5999/6000'.format),
        'Retry-After': _LINE | st.integers(-5, 10**12).map(str),
        'Docker-Content-Digest': _LINE | st.just(digest_of(DATA)),
        'WWW-Authenticate': _LINE | _LINE.map('Bearer realm="{}"'.format),
        'Content-Type': _LINE | st.sampled_from(sorted(MANIFESTS | INDEXES)),
    },
)
_STATUS = st.sampled_from(
    [
        200,
        201,
        202,
        204,
        206,
        301,
        302,
        304,
        307,
        400,
        401,
        403,
        404,
        405,
        408,
        416,
        429,
        500,
        503,
        599,
        999,
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just(digest_of(DATA)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    'schemaVersion',
                    'mediaType',
                    'config',
                    'layers',
                    'manifests',
                    'digest',
                    'size',
                    'errors',
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
_BODY = st.binary(max_size=50) | st.just(DATA) | _JSON.map(canonical_json)
_REPLIES = st.lists(st.tuples(_STATUS, _HEADERS, _BODY), min_size=1, max_size=6)


@pytest.fixture(scope='module')
def server() -> Iterator[FaultyRegistry]:
    with faulty.running() as running:
        yield running


@pytest.mark.parametrize('verb', ['read', 'fetch', 'look', 'mount', 'send', 'write'])
@given(answers=_REPLIES)
@settings(max_examples=40, deadline=None)
def test_any_answer_is_used_or_refused(
    verb: str, answers: list[tuple[int, dict[str, str], bytes]], server: FaultyRegistry
) -> None:
    server.faults.clear()
    server.fail('', '', *[replies(*answer) for answer in answers])
    with client(server) as registry, contextlib.suppress(PackagingError):
        verbs: dict[str, Callable[[], Any]] = {
            'read': registry.get_manifest,
            'fetch': lambda: b''.join(registry.get_blob(described(DATA))),
            'look': lambda: registry.has_blob(digest_of(DATA)),
            'mount': lambda: registry.mount(digest_of(DATA), 'team/base'),
            'send': lambda: registry.upload(described(DATA), DATA),
            'write': lambda: registry.put_manifest(b'{}', OCI_MANIFEST),
        }
        result = verbs[verb]()
        if verb == 'fetch':
            assert result == DATA
