"""XManager: package, run and keep track of machine-learning experiments.

Launch scripts import what they need: `from xmanager import xm` for descriptions and
`from xmanager import xm_local` for running them. Importing `xmanager` alone loads nothing.
"""
