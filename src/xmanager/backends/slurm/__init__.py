"""Runs units on a cluster that Slurm manages."""
