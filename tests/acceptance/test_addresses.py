"""An address that names nothing is a misuse that one line tells of, whatever the command."""

import pytest

BAD = ('1.x', '../..', '', '0x1', '1.1.job.more/..', '-1', '9' * 40)


@pytest.mark.parametrize(
    'words',
    [
        ['show'],
        ['logs'],
        ['wait'],
        ['stop'],
        ['restart'],
        ['where'],
        ['delete', '--yes'],
        ['supervise'],
    ],
    ids=' '.join,
)
def test_a_malformed_address_is_a_misuse(xmanager, home, words):
    for bad in BAD[:3]:
        result = xmanager(*words, '--', bad)
        assert (result.code, result.stdout) == (2, ''), bad
        assert repr(bad) in result.message or bad in result.message
    assert not home.exists()


@pytest.mark.parametrize('bad', BAD)
def test_show_refuses_every_malformed_address(xmanager, home, bad):
    result = xmanager('show', '--', bad)
    assert result.code in ((1, 2) if bad == '9' * 40 else (2,))
    assert result.message.startswith('xmanager: ')
    assert not home.exists()
