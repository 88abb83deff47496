"""The ``wcordbench`` command."""

from __future__ import annotations

import sys

import typer

from wcordbench.cli import list as list_
from wcordbench.cli import plot, rerun, run, table, validate, verify
from wcordbench.errors import UserError

app = typer.Typer(
    name="wcordbench",
    help="Knowledge distillation, benchmarked: WCoRD, CRD and the methods they are compared with.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.command)
app.command("table")(table.command)
app.command("plot")(plot.command)
app.command("verify")(verify.command)
app.command("rerun")(rerun.command)
app.command("validate")(validate.command)
app.command("list")(list_.command)


def main() -> None:
    """Entry point: a :class:`UserError` becomes one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print("wcordbench:", *str(error).splitlines(), file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `wcordbench table | head`
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
