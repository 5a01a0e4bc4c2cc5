"""What could never be started is refused when it is added, in one sentence."""

import attrs
import pytest

from xmanager.backend import Task
from xmanager.backends.local.startable import check
from xmanager.errors import ExecutorError

TASK = Task(
    'train', '1_1_train', ('true', 'é', ''), '/', env={'LR': '0.1'}, secrets={'KEY': 'MINE'}
)


def test_what_can_be_passed_to_a_program_is_accepted():
    check([TASK, attrs.evolve(TASK, argv=(), cwd='.', env={}, secrets={})])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'argv': ('true', 'a\0b')},
            "job train: argument 1 holds a NUL byte ('a\\x00b'), which no program can be given. Pass it in a file.",
        ),
        (
            {'argv': ('true', 'x' * 1000 + '\0')},
            'job train: argument 1 holds a NUL byte '
            f"('{'x' * 38}…), which no program can be given. Pass it in a file.",
        ),
        (
            {'env': {'TOKEN': 'hush\0'}},
            'job train: the value of TOKEN in env_vars holds a NUL byte, which no program can be given. '
            'Pass it in a file.',
        ),
        (
            {'env': {'a.b': '1'}},
            "job train: 'a.b' is no name for an environment variable: "
            'a shell can only hand on letters, digits and _. Rename it.',
        ),
        (
            {'secrets': {'A\0': 'MINE'}},
            "job train: 'A\\x00' is no name for an environment variable: "
            'a shell can only hand on letters, digits and _. Rename it.',
        ),
        (
            {'cwd': '/no/such'},
            "job train: cwd '/no/such' does not exist. Make that folder, or set Local(cwd=...).",
        ),
        (
            {'cwd': '/dev/null'},
            "job train: cwd '/dev/null' is not a folder. Set Local(cwd=...).",
        ),
        (
            {'cwd': '/a\0'},
            "job train: cwd '/a\\x00' does not exist. Make that folder, or set Local(cwd=...).",
        ),
    ],
)
def test_what_can_never_start_is_explained(changes, message):
    with pytest.raises(ExecutorError) as raised:
        check([TASK, attrs.evolve(TASK, **changes)])
    assert str(raised.value) == message
