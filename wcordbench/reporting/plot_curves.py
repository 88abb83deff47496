"""Learning curves: a test score after every epoch, by method, with the seeds as a band."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable
from typing import Any

from wcordbench.errors import UserError
from wcordbench.reporting import plot
from wcordbench.reporting.plot import Out
from wcordbench.reporting.table import measured
from wcordbench.results.store import RunFolder, Store
from wcordbench.suite.runs import Cell
from wcordbench.suite.schema import Suite

#: Epochs of each seed of a method, by its title.
_Curves = dict[str, list[list[float]]]


def curves(suite: Suite, cells: Iterable[Cell], store: Store, out: Out) -> None:
    """Draw the test score of every epoch: a panel a pair, a line a method, seeds as a band.

    More methods than the palette has colours are spread over several panels; the plain student
    is in each of them. A failed seed is left out, and a line ends where one of its seeds in
    training is; the figure says both.

    Args:
        suite: names the rows and the pairs.
        cells: its cells, or those to draw.
        store: where the runs are; finished ones and those still in training are drawn.
        out: as for :func:`wcordbench.reporting.plot_table.dot_plot`.

    Raises:
        UserError: as there, or metrics are damaged.
    """
    pyplot = plot.pyplot_for(out)
    drawn: dict[str, tuple[str, _Curves]] = {}
    failed = 0
    for cell in cells:
        if cell.method is None:
            continue
        folder = store.folder(cell.run)
        if folder.state == "failed":
            failed += 1
            continue
        tests = _test_curve(folder, f"test_{suite.metric}")
        if tests:
            _, rows = drawn.setdefault(cell.pair.name, (plot.heading(cell.pair), {}))
            rows.setdefault(cell.method.title, []).append(tests)
    if not drawn:
        also = f" ({failed} failed: wcordbench status says why)" if failed else ""
        raise UserError(
            f"{suite.title or suite.name}: no epoch is over yet{also}; run the suite first"
        )
    plain = next((m.title for m in suite.methods if m.name == "student"), None)
    panels = [
        (title, {name: rows[name] for name in group}, rows.get(plain or ""))
        for title, rows in drawn.values()
        for group in _groups([name for name in rows if name != plain])
    ]
    labels = [plot.shown(name) for _, rows, _ in panels for name in rows]
    across = plot.columns(labels)
    heights = [1.85 + 0.14 * -(-(1 + len(rows)) // across) for _, rows, _ in panels]
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(plot.WIDTH, 0.3 + sum(heights)), squeeze=False,
        layout="constrained", sharey=True, gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for axis, (title, rows, student) in zip(axes[:, 0], panels, strict=True):
        if student is not None:
            _line(
                axis,
                student,
                plot.shown(plain or ""),
                {"color": plot.INK, "ls": (0, (1, 1)), "lw": 1.2},
            )
        for number, (name, seeds) in enumerate(rows.items()):
            _line(axis, seeds, plot.shown(name), plot.style(number))
        axis.legend(
            loc="lower left", bbox_to_anchor=(0, 1), ncols=across, title=title,
            title_fontsize=7, alignment="left", borderaxespad=0.2,
        )  # fmt: skip
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid()
    bands = any(len(s) > 1 for _, rows, _ in panels for s in rows.values())
    lines = ["epoch" + "; line: mean, band: lowest to highest seed" * bands]
    if any(len({*map(len, s)}) > 1 for _, rows in drawn.values() for s in rows.values()):
        lines.append("a line ends at the last epoch that all of its seeds have reached")
    if failed:
        lines.append(f"left out: {failed} run{'s' * (failed > 1)} whose training failed")
    figure.supxlabel("\n".join(lines))
    figure.supylabel(measured(suite).partition(" after")[0].rstrip(","))
    plot.save(pyplot, figure, out)


def _groups(names: list[str]) -> list[list[str]]:
    """Names in panels of about equal size, none with more lines than there are colours."""
    count = max(1, -(-len(names) // len(plot.COLOURS)))
    size, more = divmod(len(names), count)
    starts = [i * size + min(i, more) for i in range(count + 1)]
    return [names[a:b] for a, b in itertools.pairwise(starts)]


def _line(axis: Any, seeds: list[list[float]], label: str, look: dict[str, Any]) -> None:
    length = min(map(len, seeds))
    epochs = range(1, length + 1)
    columns = [[seed[i] for seed in seeds] for i in range(length)]
    means = [statistics.fmean(c) for c in columns]
    axis.plot(epochs, means, markevery=max(1, length // 8), label=label, **look)
    if len(seeds) > 1:
        axis.fill_between(
            epochs, list(map(min, columns)), list(map(max, columns)),
            color=look["color"], alpha=0.15, lw=0,
        )  # fmt: skip


def _test_curve(folder: RunFolder, key: str) -> list[float]:
    if not (folder.path / "metrics.json").is_file():
        return []
    try:
        return [float(m[key]) for m in folder.read_json("metrics.json") if key in m]
    except (TypeError, ValueError, KeyError):
        raise UserError(
            f"{folder.path / 'metrics.json'} is damaged; delete {folder.path} to train again"
        ) from None
