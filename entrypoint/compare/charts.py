"""Bar charts as SVG to stand in the page: no script, no style and no address of their own.

pygal draws. The page's style sheet gives colours and patterns by the classes `color-0`, `color-1`
and so on, so that one legend and one dark mode serve all charts. Every bar has its value beside
it: nothing depends on colour alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

WIDTH, BAR, GAP, FONT = 480, 18, 16, 14  # in units of the drawing; 1 is 1 pixel at full width
VALUES = 70  # what stays free on the right for the values beside the longest bars
LATIN = 0.6  # pygal takes every character to be so wide, in parts of the font's size
DROPPED = ("script", "style", "desc", "title")
DEAD = ("tooltip-overlay", "overlay")


def bars(
    title: str, labels: Sequence[str], series: Sequence[Sequence[float | None]], form: str
) -> str:
    """Return an SVG element with a group of bars for each label.

    A series has a contender's value for each label, None where there is nothing to show; `form`
    writes a value, as in "{:.0%}".
    """
    import pygal
    from pygal.etree import etree

    # It leaves a finder of its plugins behind, of a kind that makes every later import warn.
    sys.meta_path[:] = [
        each for each in sys.meta_path if not isinstance(each, pygal.PluginImportFixer)
    ]
    chart = pygal.HorizontalBar(
        width=WIDTH,
        height=len(labels) * (len(series) * BAR + GAP) + GAP,
        style=pygal.style.Style(label_font_size=FONT, value_font_size=FONT),
        margin=GAP // 2,
        margin_left=GAP // 2 + _wider(labels),
        margin_right=VALUES,
        show_legend=False,
        show_x_labels=False,
        print_values=True,
        print_values_position="top",  # of the bar, which lies: its right end
        truncate_label=-1,
        value_formatter=form.format,
        include_x_axis=True,
        rounded_bars=2,
        x_labels=[*reversed(labels)],  # it begins at the bottom
        js=(),
    )
    for number, values in enumerate(series):
        chart.add(str(number), [*reversed(values)])
    tree = chart.render_tree()
    _strip(tree)
    tree.attrib.update({"role": "img", "aria-label": title, "class": "chart"})
    del tree.attrib["id"]
    return str(etree.tostring(tree, encoding="unicode"))


def _wider(labels: Sequence[str]) -> float:
    """Return what the widest label takes beyond pygal's guess: Chinese is as wide as high."""
    from wcwidth import wcswidth

    guessed = max(map(len, labels)) * LATIN
    return max(0.0, max(map(wcswidth, labels)) * LATIN - guessed) * FONT


def _strip(node: Any) -> None:
    """Remove what only serves pygal's own script and style, and the remarks with today's date."""
    for child in list(node):
        dead = not isinstance(child.tag, str) or child.tag in DROPPED
        if dead or any(name in child.get("class", "").split() for name in DEAD):
            node.remove(child)
        else:
            _strip(child)
