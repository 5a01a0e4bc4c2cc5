"""Framework labels."""

import asyncio
import inspect

import pytest

from xmanager import xm
from xmanager.xm.labels import active_framework_labels


def test_labels_are_active_in_their_scope_outermost_first_and_once():
    with xm.framework_label('a'), xm.framework_label('b'), xm.framework_label('a'):
        assert active_framework_labels() == ('a', 'b')
    assert active_framework_labels() == ()


def test_functions_and_coroutines_can_be_decorated():
    @xm.framework_label('f')
    def launch(times):
        return active_framework_labels() * times

    @xm.framework_label('f')
    async def launch_async():
        await asyncio.sleep(0)
        return active_framework_labels()

    assert launch(2) == ('f', 'f')
    assert inspect.iscoroutinefunction(launch_async)
    assert asyncio.run(launch_async()) == ('f',)
    assert active_framework_labels() == ()


@pytest.mark.parametrize('label', ['', 'a b', 'é', 'a\n'])
def test_a_label_is_letters_digits_underscores_and_hyphens(label):
    with pytest.raises(ValueError, match='framework_label'):
        xm.framework_label(label)


def test_a_generator_function_cannot_be_decorated():
    def numbers():
        yield 1

    with pytest.raises(TypeError, match='inside it'):
        xm.framework_label('a')(numbers)
