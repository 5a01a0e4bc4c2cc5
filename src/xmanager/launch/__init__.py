"""The eager experiment behind `xm.Experiment`: resolve, record, wake the supervisor, follow."""

from __future__ import annotations

from xmanager.launch.wake import Guard, wake

__all__ = ['Guard', 'wake']
