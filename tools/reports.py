"""Reading report.json files of `tidal eval --report`, for the tools beside it."""

import json
import math
import pathlib

FORMAT = 1


class ReportError(Exception):
    """What is wrong with a file, in one line."""


def load(path):
    """The runs of DIR/report.json, or of the file itself."""
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path}: cannot read: {error.strerror}") from error
    except ValueError as error:
        raise ReportError(f"{path}: not JSON: {error}") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT or not isinstance(report.get("runs"), list):
        raise ReportError(f"{path}: expected a report of format {FORMAT} with its runs")
    return report["runs"]


def figure(value, digits=3):
    """At most so many significant digits, a dash for what was not measured."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    places = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{min(places, 7)}f}"


def interval(estimate, unit=1):
    """"0.024 (0.020 to 0.029)"."""
    if not estimate or estimate.get("value") is None:
        return "–"
    text = figure(unit * estimate["value"])
    if estimate.get("low") is not None and estimate.get("high") is not None:
        text += f" ({figure(unit * estimate['low'])} to {figure(unit * estimate['high'])})"
    return text


def cache_bytes(speed):
    """What a decode step reads of the cache; None where it was not measured."""
    keys = ("scan_bytes", "gather_bytes", "full_bytes")
    if not speed or any(speed.get(key) is None for key in keys):
        return None
    return sum(speed[key] for key in keys)


def table(titles, rows):
    """A Markdown table; bars in cells are escaped."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
