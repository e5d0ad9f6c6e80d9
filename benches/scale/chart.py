"""A curve as an SVG that reads on white and on black."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 52, 52
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328; } .title { font-weight: 600; font-size: 14px; } .soft { fill: #59636e; }
.grid { stroke: #d1d9e0; } .axis { stroke: #59636e; } .bar { stroke: #cf222e; stroke-dasharray: 5 4; } .bartext { fill: #cf222e; }
.line { stroke: #0969da; fill: none; stroke-width: 2; } .dot { fill: #0969da; }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc; } .soft { fill: #9198a1; } .grid { stroke: #3d444d; } .axis { stroke: #9198a1; } .bar { stroke: #f85149; }
.bartext { fill: #f85149; } .line { stroke: #4493f8; } .dot { fill: #4493f8; } }
"""


def short(number):
    """1000 → 1k, 0.125 → 0.13, 41.4 → 41."""
    for size, letter in [(1_000_000, "M"), (1_000, "k")]:
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def ticks(top):
    """From 0 in about five steps of 1, 2 or 5."""
    step = 10 ** math.floor(math.log10(top / 5))
    step *= next(times for times in (1, 2, 5, 10) if top / (step * times) <= 6)
    return [step * number for number in range(math.ceil(top / step - 1e-9) + 1)]


def curve(title, x_name, y_name, points, bar=None):
    """`points` as (x, y) with x above 0, drawn over the logarithm of x; `bar`: what y may be at most."""
    heights = [y for _, y in points] + ([bar] if bar else [])
    marks = ticks(max(heights) * 1.05)
    low, high = math.log10(points[0][0]), math.log10(points[-1][0])
    across = lambda x: LEFT + (math.log10(x) - low) / (high - low or 1) * (WIDTH - LEFT - RIGHT)
    up = lambda y: HEIGHT - BOTTOM - y / marks[-1] * (HEIGHT - TOP - BOTTOM)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">']
    out += [f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>"]
    out.append(f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text><text class="soft" x="{LEFT}" y="38">{escape(y_name)}</text>')
    for mark in marks:
        y = up(mark)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="soft" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(mark)}</text>')
    out.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(0):.1f}" y2="{up(0):.1f}"/>')
    if bar:
        out.append(f'<line class="bar" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(bar):.1f}" y2="{up(bar):.1f}"/>')
        # At the end where the line is farther away.
        left = abs(points[0][1] - bar) > abs(points[-1][1] - bar)
        x, anchor = (LEFT + 4, "start") if left else (WIDTH - RIGHT, "end")
        out.append(f'<text class="bartext" x="{x}" y="{up(bar) - 5:.1f}" text-anchor="{anchor}">at most {short(bar)}</text>')
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    out.append(f'<polyline class="line" points="{line}"/>')
    for x, y in points:
        crowded = x != points[-1][0] and across(points[-1][0]) - across(x) < 64
        out.append(f'<circle class="dot" cx="{across(x):.1f}" cy="{up(y):.1f}" r="3.5"/>')
        anchor = "start" if x == points[0][0] else "end" if x == points[-1][0] else "middle"
        if crowded:
            continue
        below = bar and 0 < up(y) - up(bar) < 24
        out.append(f'<text x="{across(x):.1f}" y="{up(y) + (18 if below else -9):.1f}" text-anchor="{anchor}">{short(y)}</text>')
        out.append(f'<text class="soft" x="{across(x):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="{anchor}">{short(x)}</text>')
    out.append(f'<text class="soft" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_name)}</text></svg>')
    return "\n".join(out) + "\n"
