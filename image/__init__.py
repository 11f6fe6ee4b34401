"""Builds the worker's image, tells what is in it, and starts it without a container engine."""
