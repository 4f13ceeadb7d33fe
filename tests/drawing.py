"""Figures as they come out: drawn, and measured."""

import warnings

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def inside(figure: Figure) -> Figure:
    """Draw a figure, without a warning, and require that nothing of it is cut off."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    box = figure.get_tightbbox(canvas.get_renderer())  # inches
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02
    return figure
