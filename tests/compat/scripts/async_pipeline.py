"""Async code: train, wait for all, evaluate; a group, overrides of its args, package_async."""

import asyncio

from xmanager import xm, xm_local


@xm.run_in_asyncio_loop
async def main():
    async with xm_local.create_experiment('pipeline') as experiment:
        queued = experiment.package_async(
            xm.binary(xm_local.Local.Spec(), '/bin/evaluate', args={'verbose': True})
        )
        [train] = experiment.package(
            [xm.python_container(xm_local.Kubernetes.Spec(), xm.ModuleName('train'))]
        )
        evaluate = await queued
        group = xm.JobGroup(
            learner=xm.Job(train, xm_local.Kubernetes(), args={'role': 'learner'}),
            actor=xm.Job(train, xm_local.Kubernetes(), args={'role': 'actor'}),
        )
        units = []
        for seed in range(2):
            args = xm.get_args_for_all_jobs(group, {'seed': seed})
            units.append(await experiment.add(group, args=args))
        done, _ = await asyncio.wait([unit.wait_until_complete() for unit in units])
        for wait in sorted(done, key=lambda wait: wait.work_unit.work_unit_id):
            job = xm.Job(evaluate, xm_local.Local(), name='evaluate')
            args = {'args': {'unit': wait.work_unit.work_unit_id}}
            await experiment.add(job, args=args, role=xm.WorkUnitRole(tags=['evaluation']))


main()
