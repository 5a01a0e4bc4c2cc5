"""Runs units as processes of this machine."""
