"""The README's steps: a Python container on Vertex AI, over a grid of hyperparameters."""

import itertools

from xmanager import xm, xm_local

with xm_local.create_experiment(experiment_title='cifar10') as experiment:
    spec = xm.PythonContainer(path='.', entrypoint=xm.ModuleName('cifar10'))
    [executable] = experiment.package(
        [xm.Packageable(executable_spec=spec, executor_spec=xm_local.Vertex.Spec())]
    )
    trials = [
        {'batch_size': batch_size, 'learning_rate': learning_rate}
        for batch_size, learning_rate in itertools.product([64, 1024], [0.1, 0.001])
    ]
    requirements = xm.JobRequirements(T4=1)
    for hyperparameters in trials:
        experiment.add(
            xm.Job(
                executable=executable,
                executor=xm_local.Vertex(requirements=requirements),
                args=hyperparameters,
            )
        )
