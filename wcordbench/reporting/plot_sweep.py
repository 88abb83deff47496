"""A sweep as a curve: the score against the parameter, the published curve beside it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting import plot
from wcordbench.reporting.plot import Out
from wcordbench.reporting.published import NOT_PUBLIC
from wcordbench.reporting.sweep import Sweep, sweeps
from wcordbench.reporting.table import Table
from wcordbench.suite.schema import Suite

#: Where the tick labels of one axis would touch, in inches.
_APART = 0.09


def sweep_plot(suite: Suite, table: Table, out: Out) -> None:
    """Draw the sweeps of a suite: the mean of each value, the deviation as a band.

    The plain student and KD are horizontal lines. The published curve is in the same panel
    where that leaves ours its shape, else in one below with the same points an inch.

    Args:
        suite: with at least one sweep of one parameter over numbers.
        table: of the suite, with at least one finished value.
        out: as for :func:`wcordbench.reporting.plot_table.dot_plot`.

    Raises:
        UserError: as there, or the suite has no sweep.
    """
    pyplot = plot.pyplot_for(out)
    found = sweeps(suite, table)
    if not found:
        raise UserError(
            f"suite {suite.name!r} sweeps no parameter over numbers; write {{sweep: [..]}} for"
            " a value, or draw another --kind"
        )
    found = [s for s in found if any(e.summary and e.summary.values for e in s.entries)]
    if not found:
        raise UserError(f"{table.title}: nothing is finished yet; run the suite first")
    apart = [not _together(s) for s in found]
    count = len(found) + sum(apart)
    figure, axes = pyplot.subplots(
        count, 1, figsize=(plot.WIDTH, 0.3 + 2.5 * count), squeeze=False, layout="constrained"
    )
    free = iter(axes[:, 0])
    for sweep, own in zip(found, apart, strict=True):
        axis = next(free)
        _references(axis, suite, table, sweep)
        _ours(axis, sweep)
        beside = next(free) if own else axis
        _published(beside, sweep)
        for panel in {axis, beside}:
            scale = _scale(panel, sweep)
            panel.grid()
            title = f"{plot.heading(sweep.pair)}, {sweep.method}" if panel is axis else None
            panel.legend(
                loc="lower left", bbox_to_anchor=(0, 1), ncols=2, title=title,
                title_fontsize=7, alignment="left", borderaxespad=0.2,
            )  # fmt: skip
        if own:
            _same_span(axis, beside)
        beside.set_xlabel(f"{sweep.symbol} ({scale} scale)", labelpad=1)
    if any(e.summary and e.summary.std for s in found for e in s.entries):
        figure.supxlabel("line: mean, band: ± standard deviation over seeds")
    figure.supylabel(table.metric.partition(" after")[0])
    plot.save(pyplot, figure, out)


def _ours(axis: Any, sweep: Sweep) -> None:
    points = [
        (value, entry.summary.mean, entry.summary.std or 0.0)
        for value, entry in zip(sweep.values, sweep.entries, strict=True)
        if entry.summary and entry.summary.mean is not None
    ]
    values, means, stds = zip(*sorted(points), strict=True)
    if any(stds):
        low = [m - s for m, s in zip(means, stds, strict=True)]
        high = [m + s for m, s in zip(means, stds, strict=True)]
        axis.fill_between(values, low, high, color=plot.COLOURS[0], alpha=0.2, lw=0)
    axis.plot(values, means, label="ours", clip_on=False, **plot.style(0))


def _published(axis: Any, sweep: Sweep) -> None:
    points = sorted((v, p.mean) for v, p in zip(sweep.values, sweep.published, strict=True) if p)
    if points:
        of = "" if all(e.alike for e in sweep.entries) else ", another configuration"
        if any(p is not None and p.protocol in NOT_PUBLIC for p in sweep.published):
            of = ", other images"
        look = {**plot.style(1), "mfc": "white", "label": f"published{of}"}
        axis.plot(*zip(*points, strict=True), clip_on=False, **look)


def _references(axis: Any, suite: Suite, table: Table, sweep: Sweep) -> None:
    """The plain student and KD, as horizontal lines."""
    column = sweep.column
    rows, lines = dict(table.rows), {"student": "--", "kd": (0, (1, 1))}
    for method in suite.methods:
        summary = rows[method.title][column].summary if method.title in rows else None
        if method.name in lines and method.title not in suite.swept and summary and summary.values:
            label = f"{plot.shown(method.title)} {summary.mean:.2f}"
            axis.axhline(summary.mean, color=plot.INK, lw=0.9, ls=lines[method.name], label=label)


def _together(sweep: Sweep) -> bool:
    """Whether the published curve in the same panel leaves ours at least half its height."""
    ours = [e.summary.mean for e in sweep.entries if e.summary and e.summary.mean is not None]
    theirs = [p.mean for p in sweep.published if p]
    if not theirs:
        return True
    both = max(ours + theirs) - min(ours + theirs)
    return both <= 2 * max(max(ours) - min(ours), max(theirs) - min(theirs))


def _same_span(*axes: Any) -> None:
    """Give panels the same points an inch, each around its own middle."""
    limits = [axis.get_ylim() for axis in axes]
    span = max(high - low for low, high in limits)
    for axis, (low, high) in zip(axes, limits, strict=True):
        axis.set_ylim((low + high - span) / 2, (low + high + span) / 2)


def _scale(axis: Any, sweep: Sweep) -> str:
    """A scale on which unevenly spaced values stand apart, a tick at each value; its name."""
    values = sorted(sweep.values)
    steps = [b - a for a, b in itertools.pairwise(values)]
    place: Callable[[float], float] = float
    name = "linear"
    if steps and max(steps) > 3 * min(steps) and values[0] >= 0:
        if values[0] > 0 and values[-1] >= 10 * values[0]:
            axis.set_xscale("log")
            place, name = math.log, "logarithmic"
        else:
            axis.set_xscale("function", functions=(_root, _square))
            place, name = math.sqrt, "square-root"
    inch = (plot.WIDTH - 0.7) / (place(values[-1]) - place(values[0]) or 1)
    last, labels = -math.inf, []
    for value in values:
        here = place(value) * inch
        labels.append(f"{value:g}" if here - last >= _APART else "")
        last = here if labels[-1] else last
    axis.set_xticks(values, labels)
    axis.set_xticks([], minor=True)
    gaps = [(place(b) - place(a)) * inch for a, b in itertools.pairwise(values)]
    if gaps and min(gaps) < 0.06 * max(map(len, labels)) + 0.05:
        axis.tick_params(axis="x", rotation=90)
    return name


def _root(x: Any) -> Any:
    import numpy as np

    return np.sqrt(np.maximum(x, 0))


def _square(x: Any) -> Any:
    return x**2
