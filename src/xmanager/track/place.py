"""Which experiment, unit and job this process is, read from the variables that XManager sets."""

import os
from pathlib import Path

_VARIABLES = (
    'XM_EXPERIMENT_ID',
    'XM_WORK_UNIT_ID',
    'XM_JOB_NAME',
    'XM_OUTPUT_DIR',
    'XM_ATTEMPT',
)


# Not a dataclass: importing dataclasses costs more than all the rest of this package.
class Place:
    """The job that this process belongs to.

    `work_unit_id` is a number for a work unit, and text such as `'a1'` for an auxiliary unit. `output_dir` exists,
    is this job's own, and is kept when the job is tried again; `attempt` counts the tries from 1.
    """

    __slots__ = ('attempt', 'experiment_id', 'job_name', 'output_dir', 'work_unit_id')

    experiment_id: int
    work_unit_id: int | str
    job_name: str
    output_dir: Path
    attempt: int

    def __init__(
        self,
        experiment_id: int,
        work_unit_id: int | str,
        job_name: str,
        output_dir: Path,
        attempt: int,
    ) -> None:
        self.experiment_id = experiment_id
        self.work_unit_id = work_unit_id
        self.job_name = job_name
        self.output_dir = output_dir
        self.attempt = attempt

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Place):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]  # its attributes may be assigned

    def __repr__(self) -> str:
        return (
            f'Place(experiment_id={self.experiment_id!r}, work_unit_id={self.work_unit_id!r}, '
            f'job_name={self.job_name!r}, output_dir={self.output_dir!r}, attempt={self.attempt!r})'
        )


def current() -> Place:
    """Where this process runs. Raises RuntimeError outside of a job that XManager started."""
    missing = [name for name in _VARIABLES if not os.environ.get(name)]
    if missing:
        raise RuntimeError(
            f'xmanager.track.current() works inside a job that XManager started, and {missing[0]} is not set here. '
            'Start this program with `xmanager launch`.'
        )
    experiment, unit, job, output, attempt = (os.environ[name] for name in _VARIABLES)
    try:
        return Place(
            experiment_id=int(experiment),
            work_unit_id=int(unit) if unit.isdecimal() else unit,
            job_name=job,
            output_dir=Path(output),
            attempt=int(attempt),
        )
    except ValueError:
        raise RuntimeError(
            f'xmanager.track.current(): XM_EXPERIMENT_ID={experiment!r} and XM_ATTEMPT={attempt!r} must be numbers; '
            'something changed what XManager had set.'
        ) from None
