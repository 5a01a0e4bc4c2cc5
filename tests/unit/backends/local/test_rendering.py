"""A job is told where the other jobs of its unit are, on one machine as on a cluster."""

import json
from pathlib import Path

from xmanager.backend import Task, Unit
from xmanager.backends.local.rendering import render_task


def addresses(*tasks):
    unit = Unit(1, '3', 1, 'k', Path('/home/experiments/1/3'), tasks)
    told = {render_task(unit, task, '', 'b007').marks['XM_JOB_ADDRESSES'] for task in tasks}
    [same] = told
    return json.loads(same)


def a_task(name, image='', **docker):
    executable = {'image': image} if image else {}
    return Task(
        name, f'full-{name}', ('x',), '/', options={'docker': docker}, executable=executable
    )


def test_processes_are_on_this_machine():
    assert addresses(a_task('learner'), a_task('actor')) == {
        'learner': ['127.0.0.1'],
        'actor': ['127.0.0.1'],
    }


def test_containers_of_a_group_have_their_names():
    assert addresses(a_task('a', 'image'), a_task('b', 'image'), a_task('c')) == {
        'a': ['full-a'],
        'b': ['full-b'],
        'c': ['127.0.0.1'],
    }


def test_a_container_alone_or_in_a_network_of_the_machine_is_on_this_machine():
    assert addresses(a_task('a', 'image')) == {'a': ['127.0.0.1']}
    assert addresses(a_task('a', 'i', network='host'), a_task('b', 'i', network='host')) == {
        'a': ['127.0.0.1'],
        'b': ['127.0.0.1'],
    }
