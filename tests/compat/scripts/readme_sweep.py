"""The README's first script: a binary, swept over batch sizes, with environment variables."""

from xmanager import xm, xm_local

with xm_local.create_experiment(experiment_title='cifar10') as experiment:
    [executable] = experiment.package(
        [xm.binary(path='/home/user/project/a.out', executor_spec=xm_local.Local.Spec())]
    )
    for batch_size in [64, 1024]:
        experiment.add(
            xm.Job(
                executable=executable,
                executor=xm_local.Local(),
                args={'batch_size': batch_size},
                env_vars={'HEAPPROFILE': '/tmp/a_out.hprof'},
            )
        )
