"""Draws the results as an SVG: a group of bars a workload, on logarithmic axes."""

import math
from html import escape

from workloads import LIBRARIES

COLOURS = {
    "evl": "#d9480f",
    "libuv": "#1971c2",
    "libev": "#2f9e44",
    "libevent": "#9c36b5",
    "sd-event": "#868e96",
    "raw": "#adb5bd",
}
# Title, workloads: each with an axis of its own.
PANELS = (
    (
        ("Callbacks, ns", ("soon_10000", "soon_100", "soon_1", "soon_handle_10000")),
        ("Threads, ns", ("post_1", "post_4", "wake_samecore")),
        ("Descriptors, ns", ("fd_rearm",)),
        ("Descriptors, µs a chain", ("pipes_1000", "pipes_9900")),
        ("Loops, µs", ("loop_create",)),
    ),
    (
        ("Timers, ns", (
            "timer_start", "timer_cancel", "timer_fire", "timer_rearm", "timer_hold_100", "timer_hold_10k",
            "timer_hold_1m",
        )),
        ("Memory, bytes", ("timer_bytes", "loop_bytes")),
        ("Library, KiB", ("so_kib",)),
    ),
)
COLUMN, LABEL, BARS, BAR, GAP, TOP = 560, 130, 340, 11, 12, 96


class Drawing:
    def __init__(self):
        self.parts = []

    def text(self, x, y, text, size=11, anchor="start", weight="normal", colour="#212529"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{escape(text)}</text>'
        )

    def rect(self, x, y, width, height, colour, title=""):
        inside = f"<title>{escape(title)}</title>" if title else ""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}">{inside}</rect>'
        )

    def line(self, x1, y1, x2, y2, colour, width=1.0):
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
        )


def short(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw_panel(drawing, results, workloads, title, names, x, y):
    """Returns where the panel ends."""
    groups = []
    for workload in workloads:
        if workload.name in names:
            bars = [(library, results.best(workload.name, library)) for library in LIBRARIES]
            bars = [(library, row) for library, row in bars if row is not None and row.median > 0]
            if bars:
                groups.append((workload, bars))
    if not groups:
        return y
    values = [row.median for _, bars in groups for _, row in bars]
    low = math.floor(math.log10(min(values)) - 0.05)
    high = max(math.ceil(math.log10(max(values))), low + 1)

    def across(value):
        return x + LABEL + BARS * (math.log10(value) - low) / (high - low)

    drawing.text(x, y + 12, title, size=14, weight="bold")
    y += 32
    begin = y
    height = sum(len(bars) * BAR + GAP for _, bars in groups)
    for power in range(low, high + 1):
        at = across(10.0**power)
        drawing.line(at, begin - 6, at, begin + height - GAP + 4, "#dee2e6")
        drawing.text(at, begin - 10, f"{10.0**power:,g}", size=9, anchor="middle", colour="#868e96")
    for workload, bars in groups:
        drawing.text(x + LABEL - 8, y + BAR, workload.name, anchor="end")
        for library, row in bars:
            right = across(row.median)
            detail = f"{library}, {row.variant}: {short(row.median)} {row.unit}"
            drawing.rect(x + LABEL, y + 1, max(right - x - LABEL, 1), BAR - 2, COLOURS[library], detail)
            weight = "bold" if library == "evl" else "normal"
            drawing.text(right + 4, y + BAR - 2, short(row.median), size=9, weight=weight)
            if library == "evl":
                for limit in workload.limits:
                    if limit.at_most and not limit.form and 10.0**low < limit.at_most < 10.0**high:
                        at = across(limit.at_most)
                        drawing.line(at, y - 2, at, y + BAR + 2, "#212529", 2)
            y += BAR
        y += GAP
    return y + 16


def draw(results, workloads, title, lines):
    drawing = Drawing()
    drawing.text(24, 30, title, size=18, weight="bold")
    for i, line in enumerate(lines):
        drawing.text(24, 50 + 14 * i, line, colour="#495057")
    legend = TOP - 24 + 14 * len(lines)
    at = 24
    for library in LIBRARIES:
        drawing.rect(at, legend - 9, 10, 10, COLOURS[library])
        drawing.text(at + 14, legend, library, weight="bold" if library == "evl" else "normal")
        at += 34 + 7 * len(library)
    drawing.line(at + 4, legend - 10, at + 4, legend + 2, "#212529", 2)
    drawing.text(at + 10, legend, "evl's limit; shorter is better; logarithmic")
    bottom = legend
    for column, panels in enumerate(PANELS):
        y = legend + 24
        for panel_title, names in panels:
            y = draw_panel(drawing, results, workloads, panel_title, names, 24 + column * COLUMN, y)
        bottom = max(bottom, y)
    size = f'width="{24 + 2 * COLUMN}" height="{bottom:.0f}"'
    box = f"0 0 {24 + 2 * COLUMN} {bottom:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="{box}" font-family="system-ui, sans-serif">\n'
        f'<rect {size} fill="#ffffff"/>\n' + "\n".join(drawing.parts) + "\n</svg>\n"
    )
