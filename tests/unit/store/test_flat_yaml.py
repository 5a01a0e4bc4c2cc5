"""The little of YAML that names a database."""

import pytest

from xmanager.store.flat_yaml import read

_ALL = """\
---
# The team's database.
sql_connector: generic   # or sqlite

sql_connection_settings:
  backend: postgresql
  username: "ada \\"a\\""
  password: 'it''s: #1'
  host: ~
  port: 5432
  db_name: xm#1
"""


def test_keys_values_and_one_level_below_are_read():
    assert read(_ALL) == {
        'sql_connector': 'generic',
        'sql_connection_settings': {
            'backend': 'postgresql',
            'username': 'ada "a"',
            'password': "it's: #1",
            'host': '',
            'port': '5432',
            'db_name': 'xm#1',
        },
    }


@pytest.mark.parametrize('text', ['', '# nothing\n', '---\n'])
def test_nothing_is_no_error(text):
    assert read(text) == {}


@pytest.mark.parametrize(
    'line',
    [
        '- a',
        'hush',
        '{a: hush}',
        'a: [hush]',
        'a: &hush x',
        'a: |',
        'a: "hush',
        '  a: hush',
        'a:hush',
    ],
)
def test_what_is_not_understood_is_named_by_its_line_alone(line):
    with pytest.raises(ValueError, match='line 2') as caught:
        read(f'first: 1\n{line}\n')
    assert 'hush' not in str(caught.value)
