"""The launch script of the chaos test: adds the units that a JSON file lists."""

import json
import sys
from pathlib import Path
from typing import Any

from xmanager import xm, xm_local

JOB = Path(__file__).with_name('job.sh')


def main() -> None:
    workload = json.loads(Path(sys.argv[1]).read_text())
    executor = getattr(xm_local, workload['executor'])
    with xm_local.create_experiment(workload['title']) as experiment:
        [sh] = experiment.package([xm.binary(executor.Spec(), path='/bin/sh', args=[JOB])])
        for unit in workload['units']:
            jobs: dict[str, Any] = {
                job['name']: xm.Job(
                    sh,
                    executor(xm.JobRequirements(**job['requirements']), **job['options']),
                    args=[workload['oracle'], job['lock'], *job['behaviours']],
                )
                for job in unit['jobs']
            }
            role = xm.WorkUnitRole(importance=xm.Importance(unit['importance']))
            experiment.add(xm.JobGroup(**jobs), role=role)


if __name__ == '__main__':
    main()
