"""``wcordbench protocols``: what published protocols change, and what the best epoch adds."""

from __future__ import annotations

from pathlib import Path

import typer

from wcordbench.cli.options import Results, existing


def command(results: Results = Path("results")) -> None:
    """Print what each method's published protocol changes, and best minus last epoch per method."""
    from wcordbench.reporting.protocols import page
    from wcordbench.results.store import Store

    typer.echo(page(Store(existing(results))))
