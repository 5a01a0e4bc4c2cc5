"""The `--xm_…` flags: one table, read from the command line, from absl where a script uses it, and from `XM_…`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from xmanager.errors import UsageError

_TRUE: Final = frozenset({'1', 'true', 'yes', 'on', 't', 'y'})
_FALSE: Final = frozenset({'', '0', 'false', 'no', 'off', 'f', 'n'})
_HIDDEN: Final = '***'


@attrs.frozen
class Setting:
    """One flag `--xm_<name>`, also read from the environment variable `XM_<NAME>`."""

    name: str
    default: str | bool | int
    help: str
    is_secret: bool = False  # Its value is neither recorded nor shown.
    is_path: bool = False  # Handed on as an absolute one, relative to where it was given.
    choices: tuple[str, ...] = ()  # The texts that it may be; any, if there are none.

    @property
    def flag(self) -> str:
        return f'xm_{self.name}'

    @property
    def variable(self) -> str:
        return f'XM_{self.name.upper()}'

    def parse(self, text: str) -> str | bool | int:
        """The value that a text stands for; UsageError if it stands for none."""
        if isinstance(self.default, bool):
            if text.lower() not in _TRUE | _FALSE:
                raise UsageError(f'--{self.flag}={text}: expected true or false.')
            return text.lower() in _TRUE
        if isinstance(self.default, int):
            try:
                return int(text)
            except ValueError:
                raise UsageError(f'--{self.flag}={text}: expected a whole number.') from None
        if self.choices and text not in self.choices:
            raise UsageError(f'--{self.flag}={text}: expected {" or ".join(self.choices)}.')
        return text


_ALL: Final = (
    Setting('detach', False, 'Return once all units are added; they run on behind.'),
    Setting('wait', False, 'Wait for units in the queues of other engines, too.'),
    Setting('dry_run', False, 'Print what would run; make, record and start nothing.'),
    Setting(
        'local_resources', '', "Override what this machine has: 'cpu=8,ram=16GiB,local_gpu=4'."
    ),
    Setting(
        'local_ledger', '', 'Folder in which all experiments of this host share out what it has.'
    ),
    Setting('local_gpus_ignore_others', False, 'Use GPUs on which processes of others run, too.'),
    Setting(
        'shared',
        '',
        'Folder that the machines of a cluster see; the home unless set.',
        is_path=True,
    ),
    Setting('slurm_qos', '', "QOS of service tiers on Slurm: 'prod=high,batch=low'."),
    Setting(
        'slurm_nice',
        '',
        "Nice values of service tiers and importance on Slurm: 'batch=100,low=50'.",
    ),
    Setting('slurm_gpu_types', '', "What a cluster calls kinds of GPUs: 'a100_80gib=a100_80'."),
    Setting(
        'slurm_containers',
        '',
        'What runs images on its nodes: apptainer, singularity, podman or enroot.',
    ),
    Setting('slurm_container_options', '', 'Further options for that program.'),
    Setting(
        'slurm_root',
        '',
        'With login: folder of the cluster that its nodes see; else $XM_SHARED there, or ~/.xmanager.',
    ),
    Setting(
        'slurm_python',
        '',
        'With login: Python of the cluster for code without an environment; python3 unless set.',
    ),
    Setting(
        'slurm_fetch_max',
        '',
        "With login: largest results that are fetched: '10GiB'; 1GiB unless set.",
    ),
    Setting(
        'supervise',
        'always',
        "'on-demand': leave while all units are with an engine that queues by itself; who asks calls.",
        choices=('always', 'on-demand'),
    ),
    Setting('launch_script', '', 'The launch script, for paths that are relative to it.'),
    Setting(
        'snapshot_max_file', '', "Largest file that a snapshot takes: '500MiB'; 100MiB unless set."
    ),
    Setting('snapshot_max_total', '', "Largest snapshot: '5GiB'; 1GiB unless set."),
    Setting(
        'snapshot_allow', '', 'Paths that snapshots take whatever their size or content, PATH,….'
    ),
    Setting('build_image_locally', True, 'Build images on this machine.'),
    Setting('use_docker_command', True, 'Build images by the docker command.'),
    Setting('show_docker_command_progress', False, 'Show the output of docker builds.'),
    Setting(
        'wrap_late_bindings',
        False,
        'Accepted for old scripts; late bindings need no wrapping here.',
    ),
    Setting('cloud_build_timeout_seconds', 1200, 'How long a remote build may take.'),
    Setting('use_cloud_build_cache', False, 'Use the cache of remote builds.'),
    Setting('use_kaniko', False, 'Build remotely by kaniko.'),
    Setting('kaniko_cache_ttl', '336h', 'How long kaniko keeps layers.'),
    Setting('gcp_service_account_name', 'xmanager', 'Service account of jobs on Google Cloud.'),
    Setting('k8s_service_account_name', 'default', 'Service account of jobs on Kubernetes.'),
    Setting('db_yaml_config_path', '', 'YAML file that says which database to use.'),
    Setting('upgrade_db', False, 'Accepted for old scripts; the database is upgraded when needed.'),
    Setting('bazel_command', 'bazel', 'The Bazel to run.'),
    Setting(
        'binary_max_kept',
        '128MiB',
        'Larger programs are not copied, only checked before they start.',
    ),
    Setting('use_multiplexer', False, 'Accepted for old scripts; see `xmanager logs -f`.'),
    Setting('open_multiplexer_window', False, 'Accepted for old scripts; see `xmanager logs -f`.'),
    Setting('subprocess_docker_impl', False, 'Accepted for old scripts.'),
    Setting('gcs_path', '', 'Where contrib.gcs puts files.'),
    Setting('notify', '', 'A command or webhook URL to call at failures and ends.', is_secret=True),
)

SETTINGS: Final[Mapping[str, Setting]] = {setting.name: setting for setting in _ALL}
_FLAGS: Final[Mapping[str, Setting]] = {setting.flag: setting for setting in _ALL}


def get(name: str) -> Any:
    """The value of a setting: as absl parsed it, else from the environment, else the default."""
    setting = SETTINGS[name]
    absl_flags = sys.modules.get('absl.flags')
    if absl_flags is not None and setting.flag in absl_flags.FLAGS:
        flag = absl_flags.FLAGS[setting.flag]
        if flag.present:
            return flag.value
    text = os.environ.get(setting.variable)
    return setting.default if text is None else setting.parse(text)


def export(environ: MutableMapping[str, str]) -> None:
    """Writes what differs from the defaults, or from `environ`, into it, for processes that we start."""
    for setting in _ALL:
        value = get(setting.name)
        if value != setting.default or setting.variable in environ:
            is_relative = setting.is_path and value
            environ[setting.variable] = str(
                Path(value).expanduser().absolute() if is_relative else value
            )


def take_flags(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Splits a command line into our flags (variable → value) and the rest; the rest keeps its order.

    Understands `--xm_x=v`, `--xm_x v`, `--xm_switch`, `--noxm_switch`. What stands after a bare `--` is left alone.
    Raises UsageError for a value that is missing or makes no sense.
    """
    ours: dict[str, str] = {}
    rest: list[str] = []
    arguments = iter(argv)
    for argument in arguments:
        if argument == '--':
            rest.append(argument)
            rest.extend(arguments)
            break
        setting = _FLAGS.get(argument.lstrip('-').partition('=')[0].removeprefix('no'))
        if setting is None or not argument.startswith('-'):
            rest.append(argument)
            continue
        value = _value(setting, argument, arguments)
        setting.parse(value)
        ours[setting.variable] = value
    return ours, rest


def without_secrets(argv: Sequence[str]) -> tuple[str, ...]:
    """A command line as it may be recorded: a webhook's URL, for one, lets whoever knows it write to a channel."""
    shown: list[str] = []
    hides_next = False
    for argument in argv:
        name, equals, _ = argument.partition('=')
        setting = _FLAGS.get(name.lstrip('-')) if name.startswith('-') else None
        is_secret = setting is not None and setting.is_secret
        if hides_next:
            shown.append(_HIDDEN)
        else:
            shown.append(f'{name}={_HIDDEN}' if is_secret and equals else argument)
        hides_next = is_secret and not equals and not hides_next
    return tuple(shown)


def _value(setting: Setting, argument: str, following: Iterator[str]) -> str:
    """The text that a flag of ours is given, which may be the argument that follows it."""
    name, equals, value = argument.lstrip('-').partition('=')
    is_switch = isinstance(setting.default, bool)
    if name.startswith('no'):
        if equals or not is_switch:
            raise UsageError(f'{argument}: expected --{setting.flag}=VALUE.')
        return 'false'
    if equals:
        return value
    if is_switch:
        return 'true'
    try:
        return next(following)
    except StopIteration:
        raise UsageError(f'{argument}: expected a value, --{setting.flag}=VALUE.') from None


def define_absl_flags() -> None:
    """Tells absl of our flags, if the script has imported absl; else does nothing.

    Their defaults are the values in force, so `FLAGS.xm_…` reads right under `xmanager launch` too.
    """
    absl_flags = sys.modules.get('absl.flags')
    if absl_flags is None:
        return
    for setting in _ALL:
        if setting.flag in absl_flags.FLAGS:
            continue
        define = {bool: absl_flags.DEFINE_boolean, int: absl_flags.DEFINE_integer}.get(
            type(setting.default), absl_flags.DEFINE_string
        )
        # absl shows defaults in the help of the script.
        in_force = setting.default if setting.is_secret else get(setting.name)
        define(setting.flag, in_force, setting.help)
