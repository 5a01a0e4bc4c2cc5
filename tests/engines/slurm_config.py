"""The configuration of the tests' Slurm clusters, as text: nodes, GPUs, partitions, scheduling in haste, accounts."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

import attrs

PARTITIONS: Final = ('low', 'high', 'gentle', 'short')


@attrs.frozen
class Settings:
    """What a test may want otherwise. Times are seconds; sizes of nodes are in CPUs, MB and GPUs.

    `max_array_size` and `min_job_age` (after which an ended job is forgotten) are Slurm's own defaults, as most sites
    have them. `node_timeout` is how long a silent slurmd is taken to be alive. `grace` is what a job in partition
    `gentle` has between the warning and its end when it is preempted. `cgroups` needs root and cgroup v1.
    `lines` are added to slurm.conf.
    """

    nodes: int = 4
    cpus: int = 8
    memory: int = 8000
    gpus: int = 4
    max_array_size: int = 1001
    min_job_age: int = 300
    kill_wait: int = 2
    node_timeout: int = 300
    grace: int = 5
    max_submit_jobs: int = 10
    cgroups: bool = False
    lines: tuple[str, ...] = ()

    def accounts(self, site: Site) -> list[str]:
        """What sacctmgr is to add. Only `lab` is this user's; `tight` is a QOS with few jobs at once."""
        return [
            f'add cluster {site.name}',
            'add account lab Description=lab Organization=lab',
            'add account others Description=others Organization=others',
            f'add qos tight MaxSubmitJobsPerUser={self.max_submit_jobs}',
            'add qos urgent Priority=100',
            'add qos forbidden',
            f'add user {site.user} Account=lab DefaultAccount=lab',
            f'modify user {site.user} where Account=lab set QOS=normal,tight,urgent DefaultQOS=normal',
        ]


@attrs.frozen
class Site:
    """Where a cluster lies: its folder, this host, who runs it, and ports for slurmctld, slurmdbd and each slurmd."""

    folder: Path
    host: str
    user: str
    name: str
    ports: tuple[int, ...]

    @property
    def munge_socket(self) -> Path:
        return self.folder / 'munge' / 'socket'

    @property
    def munge_options(self) -> list[str]:
        files = {'key-file': 'key', 'pid-file': 'pid', 'log-file': 'log', 'seed-file': 'seed'}
        options = [f'--{option}={self.folder / "munge" / name}' for option, name in files.items()]
        return [*options, f'--socket={self.munge_socket}']

    def make_folders(self, settings: Settings) -> None:
        for name in ('state', 'spool', 'log', 'run', 'munge', 'gpus'):
            # munged wants others to be able to look into its folder.
            (self.folder / name).mkdir(mode=0o755, exist_ok=True)
        for number in range(settings.nodes):
            (self.folder / 'spool' / f'n{number + 1}').mkdir(exist_ok=True)
        for number in range(settings.gpus):
            # slurmd takes only character devices for GPUs. It follows links.
            gpu = self.folder / 'gpus' / f'gpu{number}'
            if not gpu.is_symlink():
                gpu.symlink_to('/dev/null')
        key = self.folder / 'munge' / 'key'
        if not key.exists():
            key.touch(0o600)
            key.write_bytes(secrets.token_bytes(128))

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.folder / name
        path.touch(mode)
        path.write_text(text)


def slurm_conf(site: Site, settings: Settings, accounting: bool) -> str:
    """Of man slurm.conf (22.05)."""
    preempting = 'PreemptMode=REQUEUE PriorityTier=1'
    return _lines(
        _addresses(site, settings),
        f'StateSaveLocation={site.folder}/state',
        f'SlurmdSpoolDir={site.folder}/spool/%n',
        f'SlurmctldPidFile={site.folder}/run/slurmctld',
        f'SlurmdPidFile={site.folder}/run/%n',
        f'SlurmctldLogFile={site.folder}/log/slurmctld.log',
        f'SlurmdLogFile={site.folder}/log/%n.log',
        'MpiDefault=none',
        *_confinement(settings),
        'ReturnToService=2',
        f'SlurmdTimeout={settings.node_timeout}',
        f'KillWait={settings.kill_wait}',
        f'MinJobAge={settings.min_job_age}',
        f'MaxArraySize={settings.max_array_size}',
        'MaxJobCount=50000',
        'JobRequeue=1',
        'SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0',
        'SlurmctldParameters=preempt_send_user_signal',
        'SlurmdParameters=config_overrides',
        'SelectType=select/cons_tres',
        'SelectTypeParameters=CR_Core_Memory',
        # Without a default a job takes all memory of its node, and so the node.
        f'DefMemPerCPU={settings.memory // settings.cpus}',
        'PreemptType=preempt/partition_prio',
        'PreemptMode=REQUEUE',
        'GresTypes=gpu',
        'JobCompType=jobcomp/filetxt',
        f'JobCompLoc={site.folder}/log/jobcomp.txt',
        *_accounting(site, accounting),
        f'PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE {preempting} GraceTime=0',
        f'PartitionName=gentle Nodes=ALL MaxTime=INFINITE {preempting} GraceTime={settings.grace}',
        'PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF',
        'PartitionName=short Nodes=n1 MaxTime=10 PriorityTier=1 PreemptMode=REQUEUE',
        *settings.lines,
    )


def gres_conf(site: Site, settings: Settings) -> str:
    """Of man gres.conf. A count without files would leave the nodes invalid."""
    if not settings.gpus:
        return ''
    files = f'{site.folder}/gpus/gpu[0-{settings.gpus - 1}]'
    return f'NodeName=n[1-{settings.nodes}] Name=gpu Type=a100 File={files}\n'


def cgroup_conf() -> str:
    """Of man cgroup.conf: memory is what a job asked for, and it is killed beyond that."""
    return _lines(
        'CgroupPlugin=cgroup/v1',
        'CgroupAutomount=no',
        'ConstrainRAMSpace=yes',
        'ConstrainSwapSpace=no',
        'ConstrainCores=no',
        'ConstrainDevices=no',
    )


def slurmdbd_conf(site: Site, database_port: int, password: str) -> str:
    """Of man slurmdbd.conf."""
    return _lines(
        'AuthType=auth/munge',
        f'AuthInfo=socket={site.munge_socket}',
        f'DbdHost={site.host}',
        'DbdAddr=127.0.0.1',
        f'DbdPort={site.ports[1]}',
        f'SlurmUser={site.user}',
        f'LogFile={site.folder}/log/slurmdbd.log',
        f'PidFile={site.folder}/run/slurmdbd',
        'StorageType=accounting_storage/mysql',
        'StorageHost=127.0.0.1',
        f'StoragePort={database_port}',
        'StorageUser=slurm',
        f'StoragePass={password}',
        f'StorageLoc=slurm_{site.name}',
    )


def _addresses(site: Site, settings: Settings) -> str:
    ports = ','.join(str(port) for port in site.ports[2:])
    gpus = f'Gres=gpu:a100:{settings.gpus}' if settings.gpus else ''
    return _lines(
        f'ClusterName={site.name}',
        f'SlurmctldHost={site.host}(127.0.0.1)',
        f'SlurmctldPort={site.ports[0]}',
        f'SlurmUser={site.user}',
        f'SlurmdUser={site.user}',
        'AuthType=auth/munge',
        # A job that is requeued waits until its first credential has run out, a second more than this.
        f'AuthInfo=socket={site.munge_socket},cred_expire=5',
        'CredType=cred/munge',
        f'NodeName=n[1-{settings.nodes}] NodeHostname={site.host} NodeAddr=127.0.0.1 Port=[{ports}] '
        f'CPUs={settings.cpus} RealMemory={settings.memory} {gpus}',
    ).rstrip()


def _confinement(settings: Settings) -> list[str]:
    if settings.cgroups:
        return [
            'ProctrackType=proctrack/cgroup',
            'TaskPlugin=task/cgroup',
            'JobAcctGatherType=jobacct_gather/cgroup',
            'JobAcctGatherFrequency=1',
        ]
    return [
        'ProctrackType=proctrack/linuxproc',
        'TaskPlugin=task/none',
        'JobAcctGatherType=jobacct_gather/none',
    ]


def _accounting(site: Site, accounting: bool) -> list[str]:
    if not accounting:
        return ['AccountingStorageType=accounting_storage/none']
    return [
        'AccountingStorageType=accounting_storage/slurmdbd',
        'AccountingStorageHost=127.0.0.1',
        f'AccountingStoragePort={site.ports[1]}',
        # With munge this is the socket of the munged to use: AuthInfo isn't asked here.
        f'AccountingStoragePass={site.munge_socket}',
        'AccountingStorageEnforce=associations,limits,qos',
        'AccountingStorageTRES=gres/gpu',
    ]


def _lines(*lines: str) -> str:
    return ''.join(f'{line}\n' for line in lines)
