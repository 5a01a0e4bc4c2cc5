"""Runs units on a Kubernetes cluster."""
