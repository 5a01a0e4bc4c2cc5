"""What is recorded as the reference of a unit that its engine may have begun anew: `4711`, then `4711 +1`."""

from __future__ import annotations


def join(reference: str, restarts: int) -> str:
    """The engine's reference, and how often the engine has begun the unit anew since it was submitted."""
    return f'{reference} +{restarts}' if restarts else reference


def split(recorded: str) -> tuple[str, int]:
    """The inverse of `join`."""
    reference, _, restarts = recorded.rpartition(' +')
    return (reference, int(restarts)) if reference and restarts.isdecimal() else (recorded, 0)
