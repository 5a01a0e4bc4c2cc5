"""A program that can't be run is refused in one sentence, before anything is started."""

import os
from pathlib import Path

import pytest

from xmanager.backends.local.programs import CannotStartError, find_program


@pytest.fixture
def make(tmp_path):
    def make(name, content, mode=0o755):
        path: Path = tmp_path / name
        path.write_bytes(content)
        path.chmod(mode)
        return str(path)

    return make


def own_binary():
    return Path('/proc/self/exe').read_bytes()[:64]


def test_a_path_is_run_as_it_is(make, tmp_path):
    path = make('run', b'#!/bin/sh\n')
    assert find_program(path, '/', None) == path
    assert find_program('./run', str(tmp_path), None) == './run'


def test_a_bare_name_is_looked_for_on_the_path(make, tmp_path):
    path = make('run', b'#!/usr/bin/env python\n')
    assert find_program('run', '/', f'/nowhere:{tmp_path}') == path


@pytest.mark.parametrize(
    'content',
    [
        own_binary(),
        b'MZ\0\0 registered with binfmt_misc',
        b'#!\n',
        b'#!/bin/sh',
        b'#! /bin/sh -e\n',
    ],
)
def test_what_may_run_is_left_to_the_kernel(make, content):
    path = make('run', content)
    assert find_program(path, '/', None) == path


@pytest.mark.parametrize(
    ('content', 'mode', 'message'),
    [
        (b'#!/bin/sh\n', 0o644, "'{}' may not be executed. Run: chmod +x {}"),
        (b'echo hello\n', 0o755, "'{}' is neither a binary nor a script"),
        (b'', 0o755, "'{}' is neither a binary nor a script"),
        (
            b'#!/no/such/python -u\n',
            0o755,
            "'{}' asks for the interpreter '/no/such/python', which does not exist",
        ),
        (
            b'#!/bin/sh\r\n',
            0o755,
            r"'{}' asks for the interpreter '/bin/sh\r', which does not exist",
        ),
    ],
)
def test_what_can_not_run_is_explained(make, content, mode, message):
    path = make('run', content, mode)
    with pytest.raises(CannotStartError) as raised:
        find_program(path, '/', None)
    assert message.format(path, path) in str(raised.value)


def test_a_program_for_another_processor_is_explained(make):
    emulated = (
        set(os.listdir('/proc/sys/fs/binfmt_misc'))
        if Path('/proc/sys/fs/binfmt_misc').is_dir()
        else set()
    )
    if emulated - {'register', 'status'}:
        pytest.skip('this host emulates other processors')
    head = bytearray(own_binary())
    head[18:20] = b'\x16\x00'  # EM_S390
    with pytest.raises(CannotStartError, match='another kind of processor'):
        find_program(make('run', bytes(head)), '/', None)


@pytest.mark.parametrize(
    ('name', 'path', 'message'),
    [
        ('/no/such', None, "program '/no/such' does not exist."),
        ('./no-such', None, "program './no-such' does not exist."),
        ('no-such', '/bin', "program 'no-such' is not on PATH (/bin)."),
        ('no-such', '', "program 'no-such' is not on PATH (empty)."),
        ('/tmp', None, "'/tmp' is a directory or a device, not a program."),
        ('', '/bin', 'the command is empty: its first word must name a program.'),
    ],
)
def test_what_is_not_there_is_named(name, path, message):
    with pytest.raises(CannotStartError) as raised:
        find_program(name, '/', path)
    assert str(raised.value) == message
