"""A Slurm cluster under one folder: its daemons, each of which may be killed and started again, and its jobs."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
from tests.engines import slurm_processes as processes
from tests.engines.servers import MariaDB, execute
from tests.engines.slurm_config import (
    Settings,
    Site,
    cgroup_conf,
    gres_conf,
    slurm_conf,
    slurmdbd_conf,
)

_SECONDS: Final = 60.0
_PASSWORD: Final = 'hush'


class Cluster:
    """Slurm's daemons and what is below them; each may be killed and started again, its port stays.

    `start` makes it, `stop` ends all its processes, jobs included. `database` is for the accounting, if it has one.
    """

    def __init__(self, folder: Path, settings: Settings, database: MariaDB | None = None) -> None:
        self.folder = folder
        self.settings = settings
        self.database = database
        self.site = Site(
            folder=folder,
            host=socket.gethostname().partition('.')[0],
            user=pwd.getpwuid(os.geteuid()).pw_name,
            # By this, which is in each job's environment, its processes are told from another cluster's.
            name=f'ci{secrets.token_hex(4)}',
            ports=tuple(_free_ports(settings.nodes + 2)),
        )
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def nodes(self) -> list[str]:
        return [f'n{number + 1}' for number in range(self.settings.nodes)]

    @property
    def variables(self) -> dict[str, str]:
        """What Slurm's commands need in their environment to speak with this cluster."""
        return {'SLURM_CONF': str(self.folder / 'slurm.conf')}

    @property
    def environ(self) -> dict[str, str]:
        """This process's environment without what another cluster left there, and with `variables`."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith('SLURM')}
        return {**kept, **self.variables}

    def start(self) -> None:
        self._write_configuration()
        self._spawn('munged', '--foreground', '--force', *self.site.munge_options)
        _wait_for(self.site.munge_socket.exists, 'munged', self._log)
        if self.database is not None:
            self._start_accounting(self.database)
        self.start_controller()
        for node in self.nodes:
            self.start_slurmd(node)
        self.wait_for_nodes()

    def stop(self) -> None:
        """Ends daemons, jobs and whatever the jobs left."""
        for name in ['slurmctld', *self.nodes, 'slurmdbd', 'munged']:
            # What they would still save is lost with the folder.
            self._end(name, signal.SIGTERM if name == 'slurmdbd' else signal.SIGKILL)
        self._kill_jobs()

    def stop_controller(self) -> None:
        self._end('slurmctld', signal.SIGTERM)

    def kill_controller(self, forgetful: bool = False) -> None:
        """Kills it when it has saved what it knows, which it does within 5 s; at once, if it shall forget new jobs."""
        called = time.time()
        state = self.folder / 'state' / 'job_state'

        def saved() -> bool:
            return time.time() > called + 6 or (state.exists() and state.stat().st_mtime > called)

        self.wait(lambda: forgetful or saved(), 'the state to be saved')
        self._end('slurmctld', signal.SIGKILL)

    def start_controller(self) -> None:
        """Returns when it answers."""
        self._spawn('slurmctld', '-D', '-f', self.variables['SLURM_CONF'])
        _wait_for(lambda: self._succeeds('scontrol', 'show', 'config'), 'slurmctld', self._log)

    def restart_controller(self) -> None:
        self.stop_controller()
        self.start_controller()

    def stop_slurmd(self, node: str) -> None:
        """Its jobs go on."""
        self._end(node, signal.SIGTERM)

    def start_slurmd(self, node: str) -> None:
        """Returns at once; `wait_for_nodes` waits until it has registered."""
        self._spawn('slurmd', '-D', '-f', self.variables['SLURM_CONF'], '-N', node, name=node)

    def fail_node(self, node: str) -> None:
        """As if its power went: its slurmd and jobs are killed, and Slurm takes it for down without its timeout."""
        self._end(node, signal.SIGKILL)
        self._kill_jobs(node)
        self.command('scontrol', 'update', f'NodeName={node}', 'State=DOWN', 'Reason=no power')

    def reconfigure(self, **changes: int) -> None:
        """Takes on other settings (`min_job_age=2`), without a restart."""
        self.settings = attrs.evolve(self.settings, **changes)  # type: ignore[arg-type]
        self._write_configuration()
        self.command('scontrol', 'reconfigure')

    def mend(self) -> None:
        """Makes it whole, idle and empty again after a test: no job, all daemons, all nodes."""
        if not self._runs('slurmctld'):
            self.start_controller()
        self.cancel_all()
        for node in self.nodes:
            if not self._runs(node):
                # Registering makes it idle by itself.
                self.start_slurmd(node)
            elif self._is_down(node):
                self.command('scontrol', 'update', f'NodeName={node}', 'State=RESUME')
        self.wait_for_nodes()

    def cancel_all(self) -> None:
        """Ends all jobs and waits until none is left."""
        jobs = set(self.command('squeue', '-h', '-o', '%A').split())
        if jobs:
            # It fails for a job that has ended by now.
            self.run('scancel', *jobs)
            # What is deaf to it need not be waited for as long as Slurm would.
            processes.kill(processes.of_jobs(self.site.name, []))
        self.wait_idle()

    def wait_idle(self) -> None:
        """Waits until no job waits, runs or ends."""
        self.wait(lambda: not self.command('squeue', '-h'), 'the end of all jobs')

    def wait_for_nodes(self) -> None:
        """Waits until all nodes are idle."""

        def idle() -> bool:
            counted = self.command('sinfo', '-h', '-p', 'low', '-t', 'idle', '-o', '%D').strip()
            return counted == str(self.settings.nodes)

        self.wait(idle, 'all nodes to be idle')

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        _wait_for(condition, what, lambda: self.command('sinfo') + self.command('squeue'))

    def submit(self, command: str, *options: str) -> str:
        """The job id of a shell command; its output goes nowhere unless `options` say so."""
        quiet = ['--parsable', '--output=/dev/null']
        return self.command('sbatch', *quiet, *options, f'--wrap={command}').strip()

    def state(self, job: str) -> str:
        """The state of a job or of one of its array (`4_1`), by Slurm's long name; '' if it is forgotten."""
        found = self.run('squeue', '-h', '-t', 'all', '-j', job, '-o', '%T')
        return ' '.join(sorted(set(found.stdout.split())))

    def command(self, *argv: str) -> str:
        """What one of Slurm's commands says; fails the test if it fails."""
        done = self.run(*argv)
        assert done.returncode == 0, (
            f'{argv}: exit code {done.returncode}\n{done.stdout}{done.stderr}'
        )
        return done.stdout

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Runs one of Slurm's commands, which may fail."""
        return subprocess.run(
            argv,
            check=False,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            cwd='/',
        )

    def pid(self, daemon: str) -> int:
        """Of `slurmctld`, `slurmdbd`, `munged`, or the slurmd of a node by the node's name."""
        return self._daemons[daemon].pid

    def _start_accounting(self, database: MariaDB) -> None:
        execute(
            database.admin(),
            f"CREATE USER IF NOT EXISTS slurm@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}'",
            "GRANT ALL ON *.* TO slurm@'127.0.0.1'",
        )
        self.site.write('slurmdbd.conf', slurmdbd_conf(self.site, database.port, _PASSWORD), 0o600)
        self._spawn('slurmdbd', '-D')
        _wait_for(
            lambda: self._succeeds('sacctmgr', '-n', 'list', 'cluster'), 'slurmdbd', self._log
        )
        for line in self.settings.accounts(self.site):
            self.command('sacctmgr', '-i', *line.split())

    def _write_configuration(self) -> None:
        accounting = self.database is not None
        self.site.make_folders(self.settings)
        self.site.write('slurm.conf', slurm_conf(self.site, self.settings, accounting))
        self.site.write('gres.conf', gres_conf(self.site, self.settings))
        if self.settings.cgroups:
            self.site.write('cgroup.conf', cgroup_conf())

    def _spawn(
        self, program: str, *options: str, name: str = '', environ: dict[str, str] | None = None
    ) -> None:
        with self._log_file(name or program).open('ab') as log:
            self._daemons[name or program] = subprocess.Popen(
                [find_program(program), *options],
                env={**self.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def _is_down(self, node: str) -> bool:
        state = self.command('sinfo', '-h', '-n', node, '-o', '%T')
        return 'down' in state or 'drain' in state

    def _runs(self, name: str) -> bool:
        return name in self._daemons and self._daemons[name].poll() is None

    def _end(self, name: str, with_signal: signal.Signals) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(with_signal)
        try:
            daemon.wait(_SECONDS / 6)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(_SECONDS)

    def _succeeds(self, *argv: str) -> bool:
        return self.run(*argv).returncode == 0

    def _log_file(self, name: str) -> Path:
        return self.folder / 'log' / name

    def _log(self) -> str:
        logs = sorted((self.folder / 'log').iterdir())
        return '\n'.join(f'{log.name}: {log.read_text(errors="replace")[-1500:]}' for log in logs)

    def _kill_jobs(self, node: str = '') -> None:
        logs = list((self.folder / 'log').glob(f'{node or "n*"}.log'))
        pids = processes.of_jobs(self.site.name, logs, node)
        processes.kill(pids)
        _wait_for(lambda: not any(map(processes.lives, pids)), 'the end of jobs', self._log)


def find_program(name: str) -> str:
    """Its path, also of one that ordinary users don't find; '' if it isn't installed."""
    return shutil.which(name, path=f'{os.environ["PATH"]}:/usr/sbin') or ''


def _free_ports(count: int) -> list[int]:
    """All different: they are held together until they are known."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(('127.0.0.1', 0))
        return [listener.getsockname()[1] for listener in sockets]


def _wait_for(condition: Callable[[], bool], what: str, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f'waited {_SECONDS:g} s in vain for {what}\n{told()}')
        time.sleep(0.02)
