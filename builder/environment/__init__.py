"""Conda environments: locked, linked, packed, restored."""
