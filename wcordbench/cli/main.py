"""The ``wcordbench`` command."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from wcordbench import __version__
from wcordbench.cli import (
    best,
    compare,
    data,
    evaluate,
    export,
    fetch,
    forget,
    init,
    log,
    merge,
    plan,
    plot,
    probe,
    protocols,
    report,
    rerun,
    run,
    schema,
    status,
    streams,
    table,
    validate,
    verify,
)
from wcordbench.cli import list as list_
from wcordbench.errors import UserError

app = typer.Typer(
    name="wcordbench",
    help="Knowledge distillation, benchmarked: WCoRD, CRD and the methods they are compared with.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 110},
    rich_markup_mode=None,  # plain help: rich's would be half of the time that --help takes
)
app.command("init")(init.command)
app.command("run")(run.command)
app.command("fetch")(fetch.command)
app.command("plan")(plan.command)
app.command("status")(status.command)
app.command("table")(table.command)
app.command("compare")(compare.command)
app.command("report")(report.command)
app.command("plot")(plot.command)
app.command("best")(best.command)
app.command("export")(export.command)
app.command("evaluate")(evaluate.command)
app.command("probe")(probe.command)
app.command("log")(log.command)
app.command("verify")(verify.command)
app.command("rerun")(rerun.command)
app.command("merge")(merge.command)
app.command("forget")(forget.command)
app.command("validate")(validate.command)
app.command("data")(data.command)
app.command("schema")(schema.command)
app.command("list")(list_.command)
app.command("protocols")(protocols.command)

#: The error for wrong flags: click's, or in later versions typer's own copy of it.
_USAGE: Any = typer.BadParameter.__base__


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wcordbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """What the command itself takes."""


def main() -> None:
    """Entry point: a :class:`UserError` or a wrong flag becomes one sentence and exit code 2."""
    streams.prepare(sys.argv[1:])
    try:
        code = app(standalone_mode=False)
        streams.flush()
        sys.exit(code)
    except UserError as error:
        _refuse(*str(error).splitlines())
    except _USAGE as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        command = error.ctx.command_path if error.ctx else "wcordbench"
        sentence = error.format_message().rstrip(".")
        _refuse(*f"{sentence}; see {command} --help".splitlines())
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:  # `wcordbench table | head`
        streams.let_go()
        sys.exit(0)
    except OSError as error:
        if not streams.full(error):
            raise
        _refuse(
            f"what is printed cannot be written ({error.strerror}); free space, or print elsewhere"
        )
    except SystemExit:
        if type(sys.stdout).__name__ != "PacifyFlushWrapper":
            raise
        streams.let_go()  # click's way of saying that the reader is gone, with code 1
        sys.exit(0)


def _refuse(*lines: str) -> None:
    try:
        streams.flush()
        print("wcordbench:", *lines, file=sys.stderr, flush=True)
    except OSError:  # nobody hears it
        with contextlib.suppress(OSError):
            print("wcordbench:", *lines, file=sys.stderr, flush=True)
        streams.let_go()
    sys.exit(2)


if __name__ == "__main__":
    main()
