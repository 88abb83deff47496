"""The suites lie beside the package in a clone and inside it in a wheel."""

from setuptools import find_packages, setup

SUITES = "wcordbench.suites"

setup(
    packages=[*find_packages(include=["wcordbench", "wcordbench.*"]), SUITES],
    package_dir={SUITES: "suites"},
    package_data={SUITES: ["*.yaml", "*.json"]},
)
