"""A job group: a learner and two actors start together, talk over a port and end together.

Run it with `xmanager launch examples/actor_learner/launcher.py`.
"""

import random
import sys
from pathlib import Path

from xmanager import xm, xm_local

HERE = Path(__file__).resolve().parent


def python_program(name: str) -> xm.Packageable:
    return xm.binary(xm_local.Local.Spec(), path=sys.executable, args=[str(HERE / name)])


with xm_local.create_experiment('actor-learner') as experiment:
    learner, actor = experiment.package([python_program('learner.py'), python_program('actor.py')])
    for learning_rate in (0.05, 0.2):
        # The port at which the three of a unit meet; each unit has one of its own.
        talk = {'port': random.randrange(20_000, 30_000)}
        experiment.add(
            xm.JobGroup(
                learner=xm.Job(
                    learner, xm_local.Local(), args={**talk, 'learning_rate': learning_rate}
                ),
                actor_1=xm.Job(actor, xm_local.Local(), args={**talk, 'seed': 1}),
                actor_2=xm.Job(actor, xm_local.Local(), args={**talk, 'seed': 2}),
            )
        )
