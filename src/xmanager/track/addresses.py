"""Where the other jobs of this job's unit run."""

import json
import os


def addresses() -> dict[str, list[str]]:
    """Hosts by job name, such as `{'learner': ['n1'], 'actor': ['n2', 'n3']}`: one for each machine a job runs on.

    They are known before any of the jobs starts. Ports are for the jobs to agree on. This machine is `127.0.0.1` where
    all of them run on it; a container is called by its job's name in a network that the unit's containers share.
    Outside of a job that XManager started it is empty.
    """
    given = os.environ.get('XM_JOB_ADDRESSES') or '{}'
    try:
        found = json.loads(given)
        return {str(job): [str(host) for host in hosts] for job, hosts in found.items()}
    except (ValueError, TypeError, AttributeError):
        raise RuntimeError(
            f'xmanager.track.addresses(): XM_JOB_ADDRESSES={given!r} must be JSON, a list of hosts for each job; '
            'something changed what XManager had set.'
        ) from None
