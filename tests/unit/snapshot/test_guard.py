import pytest

from xmanager.errors import UsageError
from xmanager.snapshot import Limits, guard

KEY = b'-----BEGIN OPENSSH ' + b'PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n'


@pytest.mark.parametrize(
    'text',
    [
        KEY,
        b'key = "AKIA' + b'ABCDEFGHIJKLMNOP"',
        b'ghp_' + b'a' * 36,
        b'github_pat_' + b'a' * 70,
        b'glpat-' + b'a' * 20,
        b'AIza' + b'b' * 35,
        b'xoxb-' + b'1' * 24,
        b'hf_' + b'a' * 34,
        b'sk-proj-' + b'a' * 44,
        b'pypi-AgEI' + b'a' * 60,
        b'WANDB_API_KEY=' + b'0123456789' * 4,
        b'{"private_key": "-----BEGIN RSA ' + b'PRIVATE KEY-----\\nMII"}',
    ],
)
def test_what_looks_like_a_secret_is_told_with_its_line_and_without_itself(text):
    why = guard.suspicion('a.txt', b'# a line\n' + text)
    assert why.endswith('in line 2')
    assert text.decode() not in why


@pytest.mark.parametrize(
    ('path', 'text'),
    [
        ('a.py', b'commit = "0123456789012345678901234567890123456789"'),
        ('a.py', b'if "-----BEGIN PRIVATE KEY-----" in text:'),
        ('a.py', b'ghp_short sk-learn hf_hub task-ask-' + b'a' * 10),
        ('id_rsa.pub', b'ssh-rsa AAAA'),
        ('.env', b'EPOCHS=10\nAPI_KEY=\nTOKEN=$OTHER_TOKEN\n'),
        ('.env.example', b'API_KEY=put-yours-here-please'),
        ('data.bin', b'\0' + KEY),
    ],
)
def test_what_is_no_secret_passes(path, text):
    assert guard.suspicion(path, text) == ''


@pytest.mark.parametrize(
    'path', ['id_ed25519', 'a/.netrc', '.pypirc', 'kubeconfig', '.aws/credentials', 'x/cert.p12']
)
def test_files_in_which_programs_keep_secrets_are_known_by_name(path):
    assert guard.suspicion(path, b'anything')


def test_settings_of_a_dotenv_that_look_secret_are_told():
    assert guard.suspicion('.env', b'A=1\nexport DB_PASSWORD="correct horse"\n').endswith('line 2')


def test_limits_are_read_from_the_environment():
    environ = {
        'XM_SNAPSHOT_MAX_FILE': '500MiB',
        'XM_SNAPSHOT_MAX_TOTAL': '2g',
        'XM_SNAPSHOT_ALLOW': 'a.bin, ./data/,*.csv',
    }
    limits = Limits.of(environ)
    assert (limits.file_bytes, limits.total_bytes) == (500 * 1024**2, 2 * 1024**3)
    assert [limits.allows(path) for path in ('a.bin', 'data/x', 'x.csv', 'b.bin', 'database')] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert Limits.of({}) == Limits()


@pytest.mark.parametrize('text', ['lots', '-1', 'nan', 'inf', '5XB'])
def test_a_size_that_makes_no_sense_is_refused(text):
    with pytest.raises(UsageError, match=r'xm_snapshot_max_file=.*expected a size'):
        Limits.of({'XM_SNAPSHOT_MAX_FILE': text})
