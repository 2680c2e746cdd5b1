#!/usr/bin/env python3
"""Writes the tables of docs/results.md from reports of `tidal eval --report`: each with the command that made it.

usage: tools/make_results.py REPORT... [--into FILE] [--path FROM=TO]...      (folders of --report, or their report.json)

--into keeps what stands in FILE above the line that says where the tables begin, and writes them below it. --path writes a folder
of the machine that measured as it is called here, in the commands.
"""

import argparse
import pathlib
import re
import sys

import reports

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEGABYTE = 1e6
TABLES_BEGIN = "<!-- The tables below are written by tools/make_results.py. -->"


def shortened(command):
    """The command with the texts of a whole folder in a variable: those of data/eval/test are $TEST_TEXTS."""
    def texts(match):
        files = match.group().split()[1::2]
        folder = files[0].rpartition("/")[0]
        every = [f"{folder}/{file.name}" for file in sorted((ROOT / folder).glob("*.txt"))]
        is_whole = len(files) > 1 and files == every
        return f"${pathlib.Path(folder).name.upper()}_TEXTS" if is_whole else match.group()
    return re.sub(r"-f \S+\.txt(?: -f \S+\.txt)*", texts, command)


def origin(run):
    """The command, and what is known of where it ran."""
    machine = run.get("machine") or {}
    facts = []
    if run.get("version"):
        facts.append(f"tidal {run['version']}")
    facts.append(f"model hash `{str(run.get('model_hash'))[:12]}`")
    if machine:
        facts.append(f"{machine.get('cpu')} ({machine.get('isa')}, {machine.get('threads')} threads), cache {machine.get('cache')}")
    facts.append(f"{run.get('started')}, {reports.figure(run.get('seconds'))} s")
    stopped = " The run was stopped early: the figures are of what was finished." if run.get("interrupted") else ""
    return f"```bash\n{shortened(run.get('command', ''))}\n```\n\n{', '.join(facts)}.{stopped}"


def unmatched(run):
    """Plans of other presets that lose less than every `tidal` plan of the run that reads no more: those where there is such a
    plan, and those that read less than any."""
    points = [(plan.get("preset"), plan.get("plan"), reports.cache_bytes(plan.get("speed")), plan["kl"]["value"])
              for plan in run.get("plans", []) if (plan.get("kl") or {}).get("value") is not None]
    ours = [(size, kl) for preset, _, size, kl in points if preset == "tidal" and size is not None]
    least = min((size for size, _ in ours), default=0)
    better = [(name, size) for preset, name, size, kl in points if preset not in ("tidal", "full") and size is not None
              and not any(our_size <= size and our_kl <= kl for our_size, our_kl in ours)]
    return [name for name, size in better if size >= least], [name for name, size in better if size < least]


def listed(names):
    return ", ".join(f"`{name}`" for name in names)


def said_of_presets(run):
    """Whether another preset is the better choice at its bytes; nothing where there is nothing to set against each other."""
    presets = {plan.get("preset") for plan in run.get("plans", []) if plan.get("speed")}
    if "tidal" not in presets or len(presets - {"tidal", "full"}) == 0:
        return []
    better, smaller = unmatched(run)
    if better:
        said = f"At the bytes that they read, these lose less than every `tidal` plan here: {listed(better)}."
    else:
        said = "At the bytes that it reads, no plan of another preset loses less than a `tidal` plan here."
    return [said + (f" {listed(smaller)} read less than any `tidal` plan here." if smaller else "")]


def by_quarter(kl_along):
    return " ".join(reports.figure(kl, 2) for kl in kl_along or []) or "–"


def loss_section(run):
    rows = []
    full_bytes = reports.cache_bytes(run.get("full_speed"))
    for plan in run.get("plans", []):
        speed = plan.get("speed") or {}
        cache_bytes = reports.cache_bytes(speed)
        share = None if not full_bytes or cache_bytes is None else 100 * cache_bytes / full_bytes
        rows.append([f"`{plan.get('plan')}`", reports.interval(plan.get("kl")), reports.interval(plan.get("kl_p99")), by_quarter(plan.get("kl_along")),
                     reports.interval(plan.get("extra_nats")), reports.interval(plan.get("agreement"), 100),
                     reports.figure(None if cache_bytes is None else cache_bytes / MEGABYTE), reports.figure(share),
                     reports.figure(speed.get("tokens_per_s"))])
    titles = ["plan", "KL, nats", "KL, 99th percentile", "KL by quarter of the text", "extra nats", "same top token, %", "MB of cache read per step",
              "% of full", "tokens/s"]
    tokens = max((plan.get("tokens") or 0 for plan in run.get("plans", [])), default=0)
    windows = run.get("windows", [])
    documents = len({window.get("document") for window in windows})  # of an interrupted run not all have a window
    return "\n\n".join([
        f"### {run.get('model')}: loss at {run.get('prefill')} tokens",
        f"{tokens} decoded tokens of {len(windows)} windows, {documents} documents; full attention "
        f"{reports.interval(run.get('full_nats'))} nats per token. In brackets 95 % intervals, by document.",
        reports.table(titles, rows), *said_of_presets(run), origin(run)])


def free_run_section(run):
    rows = []
    for plan in run.get("plans", []):
        attention = plan.get("attention") or {}
        corrected = attention.get("correction_rows") or 0
        along = [kl for kl in plan.get("kl_along", []) if kl is not None]
        rows.append([f"`{plan.get('plan')}`", reports.interval(plan.get("kl")), reports.figure(along[0] if along else None),
                     reports.figure(along[-1] if along else None), reports.interval(plan.get("length")),
                     reports.interval(plan.get("repetition"), 100), corrected,
                     reports.figure(attention.get("correction_kl") if corrected else None)])
    titles = ["plan", "KL, nats", "first sixteenth", "last sixteenth", "tokens", "repeated, %", "corrected rows", "KL seen by correction"]
    return "\n\n".join([
        f"### {run.get('model')}: text of its own after {run.get('prefill')} tokens",
        f"Up to {run.get('generate')} tokens at temperature {reports.figure(run.get('temperature'))} after each of "
        f"{len(run.get('windows', []))} windows, then read by full attention. In brackets 95 % intervals, by window.",
        reports.table(titles, rows), origin(run)])


def task_section(run):
    plans = run.get("plans", [])
    rows = []
    for cell in run.get("totals", []):
        paired = cell.get("paired") or {}
        right = {"value": cell["right"] / cell["cases"] if cell.get("cases") else None, "low": cell.get("low"), "high": cell.get("high")}
        is_first = cell.get("plan") == 0
        rows.append([f"`{plans[cell['plan']]}`", cell.get("task"), cell.get("length") or "all", cell.get("cases"),
                     reports.figure(100 * cell["score"]), reports.interval(right, 100),
                     "" if is_first else f"{paired.get('only_this')} / {paired.get('only_first')}",
                     "" if is_first else reports.figure(paired.get("p_value"), 2),
                     "" if is_first else reports.interval(paired.get("difference"), 100)])
    titles = ["plan", "task", "length", "cases", "score, %", "right, %", "only here / only first", "p", "score over first, %"]
    where = "decoded" if run.get("question") == "decoded" else "in the prefill"
    return "\n\n".join([
        f"### {run.get('model')}: retrieval, question {where}",
        f"In brackets 95 % intervals; p of the sign test over the cases that differ from `{plans[0] if plans else ''}`.",
        reports.table(titles, rows), origin(run)])


def target_text(target):
    if "max_kl" in target:
        return f"the fewest bytes with a KL of at most {target['max_kl']} nats"
    return f"the least KL with at most {reports.figure(100 * target['max_scan'])} % of the cache scanned"


def calibration_section(run):
    full = run["full_bytes"]
    layers = max(len(point["select"]) for point in [*run["plans"], *run["front"]])
    rows = []
    for plan in run["plans"]:
        select = plan["select"]
        every_scan = plan["scan_bytes"] / len(select) * layers
        rows.append([plan["budget"], f"{len(select)}: {'+'.join(map(str, select)) if len(select) < layers else 'all'}", plan["scope"], plan["index_bits"],
                     reports.figure(100 * plan["scan_bytes"] / full), reports.figure(100 * (plan["scan_bytes"] + plan["gather_bytes"]) / full),
                     reports.figure(100 * (every_scan + plan["gather_bytes"]) / full), reports.figure(plan["kl"]),
                     reports.interval(plan["held_out_kl"]), reports.interval(plan["every_layer_kl"])])
    titles = ["budget", "layers that choose", "scope", "bits", "% scanned", "% read", "% read, every layer choosing", "KL, nats",
              "KL on held-out texts", "the same, every layer choosing"]
    return "\n\n".join([
        f"### {run.get('model')}: calibrated at {run.get('prefill')} tokens",
        f"Target: {target_text(run['target'])}. {len(run['texts'])} texts of {run['decode']} decoded tokens to choose by, {len(run['held_out'])} "
        f"others of {run['held_out_decode']} to check with. A full step reads {reports.figure(full / MEGABYTE)} MB of the cache. In brackets 95 % "
        "intervals, by text.",
        reports.table(titles, rows), origin(run)])


SECTIONS = {"calibration": calibration_section, "loss": loss_section, "free_run": free_run_section, "task": task_section}


def put_into(path, tables):
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        sys.exit(f"make_results.py: {path}: cannot read: {error.strerror}")
    if TABLES_BEGIN not in text:
        sys.exit(f"make_results.py: {path}: expected a line {TABLES_BEGIN}")
    path.write_text(text.split(TABLES_BEGIN)[0] + TABLES_BEGIN + "\n\n" + tables, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="REPORT")
    parser.add_argument("--into", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--path", action="append", default=[], metavar="FROM=TO")
    arguments = parser.parse_args()
    sections = []
    try:
        for path in arguments.reports:
            for run in reports.load(path):
                command = run.get("command", "")
                for rule in arguments.path:
                    command = command.replace(*rule.split("=", 1))
                sections.append(SECTIONS[run.get("kind")]({**run, "command": command}))
    except reports.ReportError as error:
        sys.exit(f"make_results.py: {error}")
    text = "\n\n".join(sections) + "\n"
    if arguments.into:
        put_into(arguments.into, text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
