"""Builds the worker's image."""
