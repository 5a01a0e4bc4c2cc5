"""Plans on a Slurm cluster, whose own processes are killed too."""

from __future__ import annotations

from pathlib import Path

import attrs
from tests.chaos.commands import Tell
from tests.chaos.model import Behaviour, Plan, PlannedJob, PlannedUnit, Step, make_plan
from tests.chaos.stage import Result, Stage
from tests.engines.slurm import Cluster


def make_slurm_plan(seed: int) -> Plan:
    """The plan of a seed, as far as a cluster can play it: whole GPUs, and nothing that its tracking of processes
    would miss (a process that its parent leaves behind is only found by cgroups)."""
    plan = make_plan(seed)
    launches = tuple(
        attrs.evolve(launch, units=tuple(_unit(unit) for unit in launch.units))
        for launch in plan.launches
    )
    return attrs.evolve(plan, launches=launches)


def _unit(unit: PlannedUnit) -> PlannedUnit:
    return attrs.evolve(unit, jobs=tuple(_job(job) for job in unit.jobs))


def _job(job: PlannedJob) -> PlannedJob:
    behaviours = tuple(
        Behaviour('exit', one.code, one.seconds) if one.kind == 'leave' else one
        for one in job.behaviours
    )
    return attrs.evolve(job, behaviours=behaviours, gpus=1 if job.gpus else 0)


class SlurmStage(Stage):
    """Where a runner would be killed, slurmctld is; where the machine would go down, the slurmd of a node dies."""

    executor = 'Slurm'
    deadline = 120.0

    def __init__(self, plan: Plan, folder: Path, tell: Tell, cluster: Cluster) -> None:
        super().__init__(plan, folder, tell)
        self._cluster = cluster
        self._commands.environment |= cluster.variables

    def _act(self, step: Step) -> None:
        match step.act:
            case 'kill-runner':
                self._tell('killed: slurmctld')
                self._cluster.kill_controller()
                self._await_lines(step.lines + 1)
                self._cluster.start_controller()
                self._tell('started: slurmctld')
            case 'reboot':
                node = self._rng.choice(self._cluster.nodes)
                self._tell(f'ended: the slurmd of {node}')
                self._cluster.stop_slurmd(node)
                self._cluster.start_slurmd(node)
            case _:
                super()._act(step)

    def _end_all(self) -> None:
        self._cluster.cancel_all()
        super()._end_all()


def play_on(cluster: Cluster, seed: int, folder: Path, tell: Tell = lambda line: None) -> Result:
    """Plays one seed in an empty folder."""
    return SlurmStage(make_slurm_plan(seed), folder, tell, cluster).play()
