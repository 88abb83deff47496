"""Suites: YAML in, runs out. Nothing in this package imports torch."""

from wcordbench.suite.load import load_suite as load_suite
from wcordbench.suite.runs import Run as Run
from wcordbench.suite.runs import expand as expand
from wcordbench.suite.schema import Suite as Suite
