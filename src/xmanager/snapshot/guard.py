"""What must not go into a snapshot unasked: secrets, by name or content, and what is too large."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from typing import Final

from xmanager.errors import PackagingError
from xmanager.snapshot.values import Limits

VERSION: Final = 1
"""Of the patterns: a file that an earlier version found clean is looked at again."""

_SHOWN: Final = 10
_HEAD: Final = 1024**2  # Secrets stand in small files: of larger ones the first MiB is looked at.

# Names by which programs keep keys and passwords.
_NAMES: Final = (
    *(
        'id_rsa',
        'id_dsa',
        'id_ecdsa',
        'id_ed25519',
        '*.p12',
        '*.pfx',
        '*.jks',
        '*.keystore',
        '*.ppk',
    ),
    *('.netrc', '_netrc', '.pypirc', '.git-credentials', '.htpasswd', '.pgpass', 'kubeconfig'),
    *('application_default_credentials.json', '.dockercfg'),
)
_NAME: Final = re.compile('|'.join(fnmatch.translate(name) for name in _NAMES))
# Folders in which programs keep them: `~/.aws/credentials`, `~/.kube/config`, `~/.docker/config.json`.
_PLACES: Final = re.compile(r'(^|/)(\.aws/credentials|\.kube/config|\.docker/config\.json)$')

# Beginnings that those who give out tokens have made up for such searches as this one.
_TOKENS: Final = re.compile(
    rb'-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s+[A-Za-z0-9+/=:]'
    rb'|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b'  # AWS
    rb'|\bgh[pousr]_[A-Za-z0-9]{36}'  # GitHub
    rb'|\bgithub_pat_[A-Za-z0-9_]{60}'
    rb'|\bglpat-[A-Za-z0-9_-]{20}'  # GitLab
    rb'|\bAIza[0-9A-Za-z_-]{35}\b'  # Google
    rb'|"private_key":\s*"-----BEGIN'
    rb'|\bxox[abprs]-[0-9A-Za-z-]{20}'  # Slack
    rb'|\bhf_[A-Za-z]{34}\b'  # Hugging Face
    rb'|\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{40}'  # OpenAI, Anthropic
    rb'|\bpypi-AgEI[A-Za-z0-9_-]{50}'  # PyPI
    rb'|(?i:wandb_?api_?key)["\']?\s*[:=]\s*["\']?[0-9a-f]{40}\b'
)
# Some bytes of each of them: to look for these first is several times as fast.
_ANCHORS: Final = re.compile(
    rb'PRIVATE KEY|A(?:KIA|SIA|Iza)|g(?:h[pousr]_|ithub_pat_|lpat-)|xox[abprs]-|hf_|sk-|pypi-AgEI|WANDB|wandb|Wandb'
)
_EXAMPLES: Final = ('.example', '.sample', '.template', '.dist')
# `.env` files: an assignment whose name tells of a secret, with a value of some length that is no reference.
_ASSIGNED: Final = re.compile(
    rb'^[ \t]*(?:export[ \t]+)?[A-Z0-9_]*(?:SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY)[A-Z0-9_]*[ \t]*=[ \t]*'
    rb'(?:"[^"$<{*\n]{8}|\'[^\'$<{*\n]{8}|[^\s"\'$<{*]{8})',
    re.MULTILINE,
)


def suspicion(path: str, head: bytes) -> str:
    """Why a file with this name and beginning may hold a secret; '' if nothing tells so. Never quotes it."""
    name = path.rpartition('/')[2]
    if _NAME.match(name) or _PLACES.search(path):
        return 'a file in which programs keep keys or passwords'
    head = head[:_HEAD]
    if b'\0' in head:  # No text.
        return ''
    if _ANCHORS.search(head) and (match := _TOKENS.search(head)):
        is_key = b'PRIVATE KEY' in match.group()
        what = 'a private key' if is_key else 'what looks like an access token'
        return f'{what} in line {_line(head, match)}'
    is_env = name == '.env' or (name.startswith('.env.') and not name.endswith(_EXAMPLES))
    if is_env and (match := _ASSIGNED.search(head)):
        return f'a secret is set in line {_line(head, match)}'
    return ''


def _line(text: bytes, match: re.Match[bytes]) -> int:
    return text.count(b'\n', 0, match.start()) + 1


def refuse_secrets(root: str, suspicions: Mapping[str, str]) -> None:
    """Raises PackagingError with the list of files that may hold secrets."""
    if suspicions:
        first = min(suspicions)
        raise PackagingError(
            f'{root} holds what must not be copied unasked: {listed(suspicions)}. '
            f'Leave it out by a line in {root}/.xmignore (`/{first}`, say), '
            f'or let it in by --xm_snapshot_allow={first}.'
        )


def refuse_odd(root: str, odd: Mapping[str, str]) -> None:
    """Raises PackagingError with the list of what can't be kept."""
    if odd:
        raise PackagingError(
            f'{root} holds what cannot be kept in a snapshot: {listed(odd)}. '
            'Remove it (of a link: make it relative, to something within), '
            f'or leave it out by a line in {root}/.xmignore (`/{min(odd)}`, say).'
        )


def refuse_sizes(root: str, sizes: Mapping[str, int], limits: Limits) -> None:
    """Raises PackagingError if a file, or all of them, are larger than the limits."""
    large = {path: size for path, size in sizes.items() if size > limits.file_bytes}
    large = {path: size for path, size in large.items() if not limits.allows(path)}
    if large:
        shown = {path: amount(size) for path, size in _descending(large)}
        first = next(iter(shown))
        raise PackagingError(
            f'{root} holds files of more than {amount(limits.file_bytes)}: {listed(shown)}. '
            f'Leave them out by a line in {root}/.xmignore (`/{first}`, say) and give the job their path, or let '
            f'them in by --xm_snapshot_max_file={amount(sizes[first], up=True)} or --xm_snapshot_allow={first}.'
        )
    total = sum(sizes.values())
    if total > limits.total_bytes:
        most = {name: amount(size) for name, size in _largest(sizes)}
        raise PackagingError(
            f'{root} holds {amount(total)} in {len(sizes):,} files, more than {amount(limits.total_bytes)}; '
            f'the most is in {listed(most)}. Leave out what is no code by lines in {root}/.xmignore, or let all in by '
            f'--xm_snapshot_max_total={amount(total, up=True)}.'
        )


def _descending(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def _largest(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """What takes the most, by what stands at the top of the tree."""
    tops: dict[str, int] = {}
    for path, size in sizes.items():
        top, slash, _ = path.partition('/')
        tops[top + slash] = tops.get(top + slash, 0) + size
    return _descending(tops)[:_SHOWN]


def listed(reasons: Mapping[str, str]) -> str:
    """`a.txt (why), b.txt (why) and 3 more`."""
    shown = [f'{path} ({why})' for path, why in list(reasons.items())[:_SHOWN]]
    more = len(reasons) - len(shown)
    return ', '.join(shown) + (f' and {more:,} more' if more else '')


def amount(size: int, *, up: bool = False) -> str:
    """`1.5GiB`, in the form that the flags take too; `up`: not less than it is."""
    for unit, factor in (('GiB', 1024**3), ('MiB', 1024**2), ('KiB', 1024)):
        if size >= factor:
            if up:
                return f'{-(-size // factor)}{unit}'
            return f'{size / factor:.1f}'.removesuffix('.0') + unit
    return f'{size}B'
