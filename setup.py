"""Packaging of mmrev."""

from setuptools import find_packages, setup

setup(name="mmrev", version="0.1.0", packages=find_packages(include=["mmrev*"]))
