"""A keeper sees its container to the end though the engine breaks off at any step."""

import json
import os
from typing import Any

import pytest

from xmanager.containers.keeper import Keeper
from xmanager.containers.remote import NoAnswer, Refused

SAID = b'\1\0\0\0\0\0\0\6hello\n'
NO_POOL = 'could not find an available, non-overlapping IPv4 address pool among the defaults'


class Answer:
    def pieces(self):
        yield SAID

    def close(self):
        pass


class Remote:
    """An engine with one container, which fails the first time at each step that `failures` names."""

    kind = 'docker'

    def __init__(self, failures):
        self.failures, self.state, self.removed = dict(failures), None, False

    def step(self, name):
        if name in self.failures:
            raise self.failures.pop(name)

    def ping(self):
        self.step('ping')

    def has_network(self, name):
        return False

    def containers(self, label):
        return []

    def inspect(self, name, timeout=None):
        self.step('inspect')
        labels = {'xmanager.key': 'key'}
        return self.state and {'State': self.state, 'Config': {'Labels': labels}}

    def attach(self, name):
        self.step('attach')
        raise NoAnswer('never attached')

    def logs(self, name, *, follow):
        self.step('logs')
        return Answer()

    def call(self, method, path, query=None, body=None, timeout=None):
        if path == '/containers/create':
            if self.state:
                raise Refused(409, 'the name is in use')
            self.state = {'Status': 'exited', 'ExitCode': 7}
        self.step(f'{method} {path}')
        self.removed = self.removed or method == 'DELETE'


@pytest.mark.parametrize(
    'failures',
    [
        {'POST /containers/create': NoAnswer('broke off')},
        {'inspect': NoAnswer('broke off'), 'logs': NoAnswer('broke off')},
        {'logs': Refused(500, 'trouble')},
        {'logs': Refused(404, 'no such file')},
        {'POST /networks/create': Refused(500, NO_POOL)},
    ],
)
def test_an_engine_that_fails_once_is_asked_again(tmp_path, failures):
    folder = tmp_path / 'job' / 'container.1'
    folder.mkdir(parents=True)
    spec = {
        'engine': 'unix:///none',
        'key': 'key',
        'name': 'name',
        'create': {'Image': 'i', 'Env': [], 'HostConfig': {}},
        'secrets': [],
        'gpus': [],
        'optional_mounts': [],
        'network': {'name': 'net', 'labels': {}, 'aliases': []},
    }
    (folder / 'container.json').write_text(json.dumps(spec))
    output = os.open(tmp_path / 'log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    keeper = Keeper(str(folder), output)
    remote: Any = Remote(failures)
    keeper._remote = keeper._network._remote = remote
    assert keeper.keep() == 7
    os.close(output)
    assert remote.failures == {}
    assert (tmp_path / 'log').read_bytes() == b'hello\n'
    assert json.loads((folder / 'ending.json').read_text())['reason'] == ''
    assert remote.removed
    assert (folder / 'removed').exists()
