import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmanager.errors import PackagingError
from xmanager.snapshot import Entry, manifest

DIGEST = 'a' * 64
GOOD = manifest.render_entries(
    [
        Entry('in', 'folder'),
        Entry('in/a\tb\n\\.py', 'file', True, 3, DIGEST),
        Entry('link', 'link', target='in/\udcff'),
    ]
)


def test_a_manifest_is_the_same_for_ever():
    """Digests are kept in databases: whoever changes the format changes them all."""
    assert (
        b'xmanager-snapshot 1 1 3\n'
        b'd\tin\n'
        b'x\t' + DIGEST.encode() + b'\t3\tin/a\\tb\\n\\\\.py\n'
        b'l\tin/\xff\tlink\n'
    ) == GOOD
    assert manifest.render_entries(manifest.parse(GOOD)) == GOOD


@pytest.mark.parametrize(
    'lines',
    [
        b'd\t..',
        b'd\t/etc',
        b'd\ta/../b',
        b'd\ta//b',
        b'd\ta/b',
        b'd\tb\nd\ta',
        b'd\ta\nd\ta',
        b'd\t',
        b'l\t\ta',
        b'q\ta',
        b'd\ta\\q',
        b'd\ta\\',
        b'd\ta\0',
        b'f\tshort\t1\ta',
        b'f\t' + DIGEST.encode() + b'\t-1\ta',
        b'f\t' + DIGEST.encode() + b'\t01\ta',
        f'f\t{DIGEST}\t\u0661\ta'.encode(),
    ],
)
def test_what_could_lead_astray_is_refused(lines):
    with pytest.raises(PackagingError, match='damaged'):
        manifest.parse(b'xmanager-snapshot 1 0 0\n' + lines + b'\n')


@given(st.binary(max_size=60), st.integers(0, len(GOOD)), st.integers(0, 8))
def test_a_manifest_is_read_as_it_was_written_or_refused(noise, at, cut):
    text = GOOD[:at] + noise + GOOD[at + cut :]
    try:
        entries = manifest.parse(text)
    except PackagingError:
        return
    assert manifest.render_entries(entries) == text


@given(st.binary(max_size=200))
def test_noise_is_refused(noise):
    with pytest.raises(PackagingError):
        manifest.parse(noise)
