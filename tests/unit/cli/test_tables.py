import pytest

from xmanager.cli.tables import Column, cut, lines, text_width

COLUMNS = (
    Column('ID', right=True),
    Column('TITLE', least=5),
    Column('STATUS'),
    Column('NOTE', least=6),
    Column('USER', optional=True),
)
ROWS = [
    ['1', 'a title of some length', 'failed', 'exit code 1', 'ada'],
    ['20', 'short', 'ok', '', 'grace'],
]


def test_a_piped_table_cuts_nothing():
    assert lines(COLUMNS, ROWS, None) == [
        'ID  TITLE                   STATUS  NOTE         USER',
        ' 1  a title of some length  failed  exit code 1  ada',
        '20  short                   ok                   grace',
    ]


@pytest.mark.parametrize('width', range(20, 70))
def test_a_table_fits_the_terminal(width):
    shown = lines(COLUMNS, ROWS, width)
    assert max(text_width(line) for line in shown) <= max(width, 25)


def test_the_widest_column_gives_way_first():
    assert lines(COLUMNS, ROWS, 45)[1] == ' 1  a title of s…  failed  exit code 1  ada'


def test_an_optional_column_goes_before_others_become_unreadable():
    assert lines(COLUMNS, ROWS, 28)[:2] == [
        'ID  TITLE    STATUS  NOTE',
        ' 1  a titl…  failed  exit c…',
    ]


def test_wide_characters_take_two_columns():
    assert text_width('日本') == 4
    assert text_width('e\u0301') == 1
    assert cut('日本語のタイトル', 6) == '日本…'
