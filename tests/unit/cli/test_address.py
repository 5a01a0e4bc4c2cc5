import pytest

from xmanager.cli.address import Address, parse


@pytest.mark.parametrize(
    ('text', 'address'),
    [
        ('12', Address(12)),
        ('12.3', Address(12, '3')),
        ('12.a1', Address(12, 'a1')),
        ('12.3.train', Address(12, '3', 'train')),
        ('12.3.v1.5', Address(12, '3', 'v1.5')),
    ],
)
def test_an_address_is_read_and_written_alike(text, address):
    assert parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    'text',
    [
        '',
        ' ',
        'x',
        '0',
        '-1',
        '0x1',
        '01',
        '1e3',
        '+1',
        '../..',
        '.',
        '..',
        '/',
        '١',
        '12\n',
        '9' * 19,
    ],
)
def test_what_names_no_experiment_is_told_how_to_name_one(text):
    with pytest.raises(ValueError, match='names no experiment: write its number, such as 12'):
        parse(text)


@pytest.mark.parametrize(
    'text', ['1.x', '1.', '1.0', '1.-1', '1.a', '1.a0', '1.b1', '1..', '1.../..', '1.A1']
)
def test_what_names_no_unit_is_told_how_to_name_one(text):
    with pytest.raises(
        ValueError, match=r'names no unit: write 1\.3 for work unit 3, 1\.a1 for auxiliary'
    ):
        parse(text)


def test_a_trailing_dot_names_no_job():
    with pytest.raises(ValueError, match=r"'1\.2\.' names no job: write 1\.2\.NAME"):
        parse('1.2.')
