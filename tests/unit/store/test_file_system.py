"""Which file system a path is on."""

import pytest

from xmanager.store.file_system import file_system_of, is_of_the_network

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /home rw,nosuid - nfs4 server:/home rw
31 30 0:27 / /home/with\\040space rw shared:2 master:1 - tmpfs tmpfs rw
32 22 0:28 / /hometown rw - xfs /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ('path', 'kind'),
    [
        ('/var/x', 'ext4'),
        ('/home/ada', 'nfs4'),
        ('/home', 'nfs4'),
        ('/home/with space/x', 'tmpfs'),
        ('/hometown', 'xfs'),
    ],
)
def test_a_file_system_is_that_of_the_innermost_mount(tmp_path, path, kind):
    mounts = tmp_path / 'mountinfo'
    mounts.write_text(MOUNTS)
    assert file_system_of(type(tmp_path)(path), mounts) == kind


def test_where_the_kernel_does_not_tell_it_is_unknown(tmp_path):
    assert file_system_of(tmp_path, tmp_path / 'nothing') == 'unknown'


@pytest.mark.parametrize(('kind', 'is_one'), [('nfs4', True), ('afs', True), ('ext4', False)])
def test_file_systems_of_the_network_are_known(kind, is_one):
    assert is_of_the_network(kind) is is_one
