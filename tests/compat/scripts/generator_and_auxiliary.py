"""A job generator that needs its unit's name, beside an auxiliary job; an absl script with a main."""

from absl import app, flags

from xmanager import xm, xm_local

FLAGS = flags.FLAGS
flags.DEFINE_integer('generators_units', 2, 'How many.')


def main(_):
    with xm_local.create_experiment(experiment_title='generated') as experiment:
        [executable] = experiment.package([xm.container(xm_local.Local.Spec(), 'image')])

        async def make_jobs(work_unit: xm.WorkUnit, **args) -> None:
            master = work_unit.get_full_job_name('master')
            work_unit.add(
                xm.JobGroup(
                    master=xm.Job(executable, xm_local.Local(), args=args),
                    worker=xm.Job(executable, xm_local.Local(), args={'master': master, **args}),
                )
            )

        for seed in range(FLAGS.generators_units):
            experiment.add(make_jobs, args={'seed': seed})
        board = xm.Job(executable, xm_local.Local(), name='board', args=['--port', 6006])
        experiment.add(xm.AuxiliaryUnitJob(board, termination_delay_secs=10))


if __name__ == '__main__':
    app.run(main)
