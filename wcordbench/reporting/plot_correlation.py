"""Maps of how students' class correlations differ from their teacher's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from wcordbench.reporting import plot
from wcordbench.reporting.plot import Out

#: panels beside each other
_ACROSS = 3


def correlation_maps(
    differences: Mapping[str, Mapping[str, NDArray[np.float64]]], out: Out
) -> None:
    """Draw matrices of differences: a block of rows a pair, a panel a method, one scale for all.

    Args:
        differences: for each pair's name and method's title a ``(K, K)`` matrix, as
            :func:`wcordbench.training.correlations.correlation_differences` gives them.
        out: as for :func:`wcordbench.reporting.plot_table.dot_plot`.

    Raises:
        UserError: as there.
    """
    pyplot = plot.pyplot_for(out)
    panels: list[tuple[str, NDArray[np.float64]] | None] = []
    for pair, methods in differences.items():
        for name, matrix in methods.items():
            of = f"{pair.replace('->', ' → ')}\n" if len(differences) > 1 else ""
            panels.append((f"{of}{plot.shown(name)}", matrix))
        panels += [None] * (-len(panels) % _ACROSS)
    rows = len(panels) // _ACROSS
    line = 0.12 * (1 + (len(differences) > 1))
    figure, axes = pyplot.subplots(
        rows, _ACROSS, figsize=(plot.WIDTH, 0.75 + rows * (1.22 + line)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    highest = max(float(np.nanmax(m)) for methods in differences.values() for m in methods.values())
    image = None
    for axis, panel in zip(axes.flat, panels, strict=True):
        axis.set_axis_off()
        if panel is not None:
            title, matrix = panel
            image = axis.imshow(
                matrix, cmap="cividis", vmin=0, vmax=highest, interpolation="nearest"
            )
            apart = matrix[~np.eye(len(matrix), dtype=bool)]
            axis.set_title(f"{title}\nmean {np.nanmean(apart):.3f}", fontsize=7, pad=2)
    if len(differences) == 1:
        (pair,) = differences
        figure.suptitle(pair.replace("->", " → "), fontsize=7)
    bar = figure.colorbar(image, ax=axes, location="bottom", aspect=35, pad=0.02)
    bar.set_label("|corr(teacher logits) − corr(student logits)|, class by class")
    plot.save(pyplot, figure, out)
