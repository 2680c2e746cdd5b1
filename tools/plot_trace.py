#!/usr/bin/env python3
"""Draws which parts of a prompt were read over time, from the file of --trace with --trace-positions (docs/trace.md).

Positions run to the right, decoded rows downwards; a cell is the darker, the more of the drawn layers' sets hold a
position in it. The line is the newest position of each row; the plot above says how many tokens a layer read.

usage: plot_trace.py TRACE.jsonl [-o OUT.png] [--layer N]...       (needs matplotlib)
"""

import argparse
import json
import sys


def read_trace(path, layers):
    """The rows of a trace in order: per step its position, its chosen positions with how often, and tokens attended."""
    rows = {}
    with open(path, encoding="utf-8") as lines:
        for number, text in enumerate(lines, start=1):
            try:
                line = json.loads(text)
                step, pos, layer = line["step"], line["pos"], line["layer"]
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(f"{path}:{number}: not a line of a trace ({error})")
            if layers and layer not in layers:
                continue
            row = rows.setdefault(step, {"pos": pos, "counts": {}, "attended": [], "chose": 0})
            row["attended"].append(line["tokens_attended"])
            for positions in line.get("positions", []):
                row["chose"] += 1
                for position in positions:
                    row["counts"][position] = row["counts"].get(position, 0) + 1
    return [rows[step] for step in sorted(rows)]


def cells(rows, num_columns):
    """Per row and column of positions the largest share of the row's sets that hold one of them."""
    last = max(row["pos"] for row in rows)
    width = last // num_columns + 1
    image = [[0.0] * (last // width + 1) for _ in rows]
    for line, row in zip(image, rows):
        for position, count in row["counts"].items():
            line[position // width] = max(line[position // width], count / row["chose"])
    return image, width


def draw(rows, out, title):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    image, width = cells(rows, 1000)
    figure, (top, main) = plt.subplots(2, 1, figsize=(11, 7), height_ratios=[1, 5], layout="constrained")
    top.plot([sum(row["attended"]) / len(row["attended"]) for row in rows], linewidth=1)
    top.set_xlabel("decoded row")
    top.set_ylabel("tokens a layer")
    top.set_ylim(bottom=0)
    top.set_title(title)
    right = len(image[0]) * width
    shown = main.imshow(image, aspect="auto", cmap="Greys", vmin=0, vmax=1, interpolation="nearest",
                        extent=(0, right, len(rows) - 0.5, -0.5))
    main.plot([row["pos"] for row in rows], range(len(rows)), color="tab:red", linewidth=1, label="newest token")
    main.set_xlabel(f"position, {width} to a column" if width > 1 else "position")
    main.set_ylabel("decoded row")
    main.set_xlim(0, right)
    main.legend(loc="lower left")
    figure.colorbar(shown, ax=main, label="share of the sets that hold a position")
    figure.savefig(out, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", help="the file of --trace, written with --trace-positions")
    parser.add_argument("-o", "--output", default="trace.png", help="the picture (default: trace.png)")
    parser.add_argument("--layer", type=int, action="append", help="only this layer; may be repeated (default: all)")
    args = parser.parse_args()
    rows = read_trace(args.trace, set(args.layer or []))
    if not any(row["counts"] for row in rows):
        sys.exit(f"{args.trace}: no chosen positions in it; write it with --trace-positions and a plan that chooses")
    layers = ", ".join(map(str, args.layer)) if args.layer else "all that choose"
    try:
        draw(rows, args.output, f"{args.trace}, layers: {layers}")
    except ModuleNotFoundError as error:
        sys.exit(f"plot_trace.py draws with matplotlib, which is missing ({error}); python3 -m pip install matplotlib")
    print(args.output)


if __name__ == "__main__":
    main()
