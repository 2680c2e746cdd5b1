#!/usr/bin/env python3
"""Writes the tables of docs/results.md from reports of `tidal eval --report`: each with the command that made it.

usage: tools/make_results.py REPORT... [--out FILE]      (folders of --report, or their report.json)
"""

import argparse
import pathlib
import sys

import reports

MEGABYTE = 1e6


def origin(run):
    machine = run.get("machine") or {}
    stopped = " The run was stopped early: the figures are of what was finished." if run.get("interrupted") else ""
    return (f"```bash\n{run.get('command', '')}\n```\n\ntidal {run.get('version')}, model hash `{str(run.get('model_hash'))[:12]}`, "
            f"{machine.get('cpu')} ({machine.get('isa')}, {machine.get('threads')} threads), cache {machine.get('cache')}, "
            f"{run.get('started')}, {reports.figure(run.get('seconds'))} s.{stopped}")


def loss_section(run):
    rows = []
    full_bytes = reports.cache_bytes(run.get("full_speed"))
    for plan in run.get("plans", []):
        speed = plan.get("speed") or {}
        cache_bytes = reports.cache_bytes(speed)
        share = None if not full_bytes or cache_bytes is None else 100 * cache_bytes / full_bytes
        rows.append([f"`{plan.get('plan')}`", reports.interval(plan.get("kl")), reports.interval(plan.get("kl_p99")),
                     reports.interval(plan.get("extra_nats")), reports.interval(plan.get("agreement"), 100),
                     reports.figure(None if cache_bytes is None else cache_bytes / MEGABYTE), reports.figure(share),
                     reports.figure(speed.get("tokens_per_s"))])
    titles = ["plan", "KL, nats", "KL, 99th percentile", "extra nats", "same top token, %", "MB of cache read per step",
              "% of full", "tokens/s"]
    tokens = max((plan.get("tokens") or 0 for plan in run.get("plans", [])), default=0)
    return "\n\n".join([
        f"### {run.get('model')}: loss at {run.get('prefill')} tokens",
        f"{tokens} decoded tokens of {len(run.get('windows', []))} windows, {len(run.get('documents', []))} documents; full attention "
        f"{reports.interval(run.get('full_nats'))} nats per token. In brackets 95 % intervals, by document.",
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
                     "" if is_first else reports.figure(paired.get("p_value"), 2)])
    titles = ["plan", "task", "length", "cases", "score, %", "right, %", "only here / only first", "p"]
    where = "decoded" if run.get("question") == "decoded" else "in the prefill"
    return "\n\n".join([
        f"### {run.get('model')}: retrieval, question {where}",
        f"In brackets 95 % intervals; p of the sign test over the cases that differ from `{plans[0] if plans else ''}`.",
        reports.table(titles, rows), origin(run)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", metavar="REPORT")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()
    sections = []
    try:
        for path in arguments.reports:
            for run in reports.load(path):
                sections.append(loss_section(run) if run.get("kind") == "loss" else task_section(run))
    except reports.ReportError as error:
        sys.exit(f"make_results.py: {error}")
    text = "\n\n".join(sections) + "\n"
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
