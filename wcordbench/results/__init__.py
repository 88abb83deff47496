"""What was trained: the run store, what it holds as numbers, and proof that it is whole."""

from wcordbench.results.frame import load

__all__ = ["load"]
