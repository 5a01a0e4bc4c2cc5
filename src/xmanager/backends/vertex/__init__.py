"""Runs units on Vertex AI."""
