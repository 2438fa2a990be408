"""The page itself: one HTML file that asks nobody for anything."""

from __future__ import annotations

import datetime
import io
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from mlp_dense.report.curves import Run, choose_keys, draw_panel
from mlp_dense.report.drawing import data_uri
from mlp_dense.report.results import Results, confused

INK = '#010203'
"""A stand-in for the page's text colour, which a diagram takes over so that it suits light and dark."""
MOST_CELLS = 32
"""The number of classes up to which the confusion matrix is a table; above, it is a picture."""
MOST_PAIRS = 24
"""The number of pairs of classes that are told beside a picture."""
MOST_POINTS = 300
"""The number of rows and columns of a picture; of more classes several share a point, which a single one would hide."""


def render(title: str, results: Results, run: Run | None, tables: Mapping[str, Any], config: str, number: int) -> str:
    """Return the HTML of a report.

    Args:
        title: name of the training.
        results: the judged predictions.
        run: the recorded curves, if there are any.
        tables: heading -> (name, value) pairs: 'Configuration', 'Speed and memory' and 'Environment'.
        config: the whole config as text.
        number: how many of the best and of the worst images are shown.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters['figure'] = _figure
    page = files(__package__)
    template = environment.from_string(page.joinpath('page.html').read_text(encoding='utf-8'))
    pairs = 8 if len(results.confusion) <= MOST_CELLS else MOST_PAIRS
    return template.render(
        title=title,
        style=Markup(page.joinpath('page.css').read_text(encoding='utf-8')),
        date=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
        results=results,
        curves=svg_curves(run),
        confusion=_confusion(results),
        mistakes=confused(results.confusion[: len(results.rows)], results.confusion_names, pairs),
        galleries={heading: _gallery(results, images) for heading, images in results.galleries(number).items()},
        tables=tables,
        config=config,
    )


def _figure(value: float | None, digits: int = 1) -> str:
    """Format a percentage."""
    return '-' if value is None or math.isnan(value) else f'{value:.{digits}f}'


def svg_curves(run: Run | None) -> dict[str, Markup]:
    """Return name of a scalar -> its diagram as SVG elements; empty without records."""
    if run is None:
        return {}
    inked = ('text.color', 'axes.edgecolor', 'axes.labelcolor', 'xtick.color', 'ytick.color')
    settings = {
        'text.parse_math': False,
        'svg.fonttype': 'none',
        'svg.hashsalt': 'mlp_dense',
        **dict.fromkeys(inked, INK),
    }
    with matplotlib.rc_context(settings):
        return {key: _svg(run, key) for key in choose_keys([run])}


def _svg(run: Run, key: str) -> Markup:
    figure = Figure(figsize=(4.6, 3.0), layout='constrained')
    draw_panel(figure.add_subplot(), [run], [run.folder.name], key)
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(buffer, format='svg', transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index('<svg') :].replace(INK, 'currentColor')
    svg = re.sub(r' id="[\w.]*_\d+"', '', svg)  # names of groups, the same in every diagram; nothing refers to them
    return Markup(
        re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 role="img" aria-hidden="true">', svg, count=1)
    )


def _confusion(results: Results) -> dict[str, Any]:
    """Return the rows of the matrix in percent of the truth, or a picture of it where there are too many."""
    counts = results.confusion
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    if len(counts) <= MOST_CELLS:
        rows = [
            [{'share': share, 'count': int(count)} for share, count in zip(*pair, strict=True)]
            for pair in zip(shares, counts, strict=True)
        ]
        return {'rows': rows, 'picture': None}
    places = range(0, len(shares), -(-len(shares) // MOST_POINTS))
    for axis in (0, 1):
        shares = np.maximum.reduceat(shares, places, axis)  # neighbours share a point, which shows the largest of them
    colors = matplotlib.colormaps['magma'](np.sqrt(shares / 100))[..., :3]
    picture = Image.fromarray((255 * colors).astype(np.uint8))
    scale = max(1, 900 // len(shares))
    large = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    return {'rows': [], 'picture': data_uri(np.asarray(large), lossless=True)}


def _gallery(results: Results, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Return name, score and pictures of some images."""
    entries = []
    for index in indices:
        drawn = results.pictures(index)
        height, width, _ = drawn['Image'].shape
        pictures = [{'title': title, 'uri': data_uri(picture)} for title, picture in drawn.items()]
        entry = {'name': results.names[index], 'score': results.scores[index], 'pictures': pictures}
        told = {'truth': results.truth_of(index), 'guesses': results.guesses(index)}
        entries.append({**entry, **told, 'width': width, 'height': height})
    return entries
