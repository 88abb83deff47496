"""wcordbench: a benchmark suite for knowledge distillation around WCoRD (CVPR 2021)."""

__version__ = "0.1.0"
