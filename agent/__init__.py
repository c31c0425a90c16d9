"""Doorward: the agent of a home-camera appliance. See README.md beside this file."""

__version__ = "0.1.0"
