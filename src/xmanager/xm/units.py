"""Units of resources: bytes by decimal and binary multiples, and virtual CPUs."""

from __future__ import annotations

B = 1

KB = 10**3
MB = 10**6
GB = 10**9
TB = 10**12
PB = 10**15

KiB = 2**10
MiB = 2**20
GiB = 2**30
TiB = 2**40
PiB = 2**50

vCPU = 1.0
