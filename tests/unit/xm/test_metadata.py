"""The status and the metadata of units."""

from typing import Any

import pytest

from xmanager import xm


def test_a_status_must_say_all_four_things():
    make: Any = xm.ExperimentUnitStatus
    with pytest.raises(TypeError, match='is_active'):
        make()


def test_a_title_is_kept():
    context = xm.MetadataContext(creator='me', annotations=xm.ContextAnnotations())
    assert (context.creator, context.annotations.title) == ('me', '')
    context.annotations.set_title('sweep')
    assert context.annotations.title == 'sweep'
