#!/usr/bin/env python3
"""Compares two reports of `tidal eval --report`: what B loses over A, plan by plan and task by task.

Runs are matched by model and length (losses, free runs) or model and question (tasks), plans by their text. Where both runs saw
the same windows the difference is taken window by window, and its 95 % interval is by bootstrap over documents; else the
two intervals are set against each other. Tasks are compared case by case (exact two-sided sign test) where both hold
the same cases.

Exit code 1: some loss got worse beyond its interval (the interval of KL(B) - KL(A) is above 0; unpaired: the intervals
do not touch; a single window has no interval and tells nothing), or a task's cases got worse with p < 0.05. 2: a file is no report, or there is nothing to compare.

usage: tools/compare_reports.py A B      (folders of --report, or their report.json)
"""

import math
import random
import sys

import reports

RESAMPLES = 2000
SIGNIFICANT = 0.05


def key_of(run):
    own = run.get("question") if run.get("kind") == "task" else run.get("prefill")
    return run.get("kind"), run.get("model_hash"), own, run.get("generate")


def same_windows(a, b):
    def places(run):
        return [(run["documents"][w["document"]], w["begin"]) for w in run["windows"]]

    return a.get("decode") == b.get("decode") and places(a) == places(b)


def paired_difference(run, first, second):
    """Mean of second - first over windows, with the interval by bootstrap over documents."""
    documents = {}
    for window, a, b in zip(run["windows"], first, second):
        documents.setdefault(window["document"], []).append(b - a)
    groups = list(documents.values())
    if len(groups) == 1:  # one document: its windows are the units
        groups = [[difference] for difference in groups[0]]
    values = [value for group in groups for value in group]
    if len(groups) < 2:
        return values[0], math.nan, math.nan
    draws = random.Random(1)
    means = []
    for _ in range(RESAMPLES):
        drawn = [value for group in draws.choices(groups, k=len(groups)) for value in group]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    return sum(values) / len(values), means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES)]


def compare_loss(a, b):
    """Rows of the table, and whether a loss got worse."""
    rows, worse = [], False
    plans = {plan["plan"]: plan for plan in a["plans"]}
    paired = same_windows(a, b)
    for second in b["plans"]:
        first = plans.get(second["plan"])
        if first is None:
            continue
        if paired and len(first["window_kl"]) == len(second["window_kl"]) > 0:
            value, low, high = paired_difference(a, first["window_kl"], second["window_kl"])
            is_worse = low > 0
            how = f"{value:+.4g}" + ("" if math.isnan(low) else f" ({low:+.4g} to {high:+.4g})")
        else:
            value = second["kl"]["value"] - first["kl"]["value"]
            ends = second["kl"]["low"], first["kl"]["high"]
            is_worse = None not in ends and ends[0] > ends[1]
            how = f"{value:+.4g} (other windows)"
        worse |= is_worse
        rows.append([f"loss at {b['prefill']}", second["plan"], reports.interval(first["kl"]), reports.interval(second["kl"]), how,
                     "WORSE" if is_worse else ""])
    return rows, worse


def compare_free_runs(a, b):
    """Each run writes its own texts, so the intervals are set against each other."""
    rows, worse = [], False
    plans = {plan["plan"]: plan for plan in a["plans"]}
    for second in b["plans"]:
        first = plans.get(second["plan"])
        if first is None:
            continue
        ends = second["kl"]["low"], first["kl"]["high"]
        is_worse = None not in ends and ends[0] > ends[1]
        worse |= is_worse
        rows.append([f"own text after {b['prefill']}", second["plan"], reports.interval(first["kl"]), reports.interval(second["kl"]),
                     f"{second['kl']['value'] - first['kl']['value']:+.4g}", "WORSE" if is_worse else ""])
    return rows, worse


def sign_test(wins, losses):
    n = wins + losses
    tail = sum(math.comb(n, i) for i in range(min(wins, losses) + 1)) / 2**n
    return min(1.0, 2 * tail)


def scores(run):
    """{(task, length, plan): {(depth, case): score}}."""
    found = {}
    for cell in run["cells"]:
        name = (cell["task"], cell["length"], run["plans"][cell["plan"]])
        for number, score in cell.get("scores", []):
            found.setdefault(name, {})[(cell["depth"], number)] = score
    return found


def compare_tasks(a, b):
    rows, worse = [], False
    first = scores(a)
    for name, cases in scores(b).items():
        common = cases.keys() & first.get(name, {}).keys()
        if not common or a.get("seed") != b.get("seed"):
            continue
        before, after = ([group[case] for case in common] for group in (first[name], cases))
        p = sign_test(sum(y > x for x, y in zip(before, after)), sum(y < x for x, y in zip(before, after)))
        is_worse = p < SIGNIFICANT and sum(after) < sum(before)
        worse |= is_worse
        mean_before, mean_after = sum(before) / len(common), sum(after) / len(common)
        rows.append([f"{name[0]} at {name[1]}", name[2], f"{100 * mean_before:.1f} %", f"{100 * mean_after:.1f} %",
                     f"{100 * (mean_after - mean_before):+.1f} (p = {p:.3f}, {len(common)} cases)", "WORSE" if is_worse else ""])
    return rows, worse


COMPARISONS = {"loss": compare_loss, "free_run": compare_free_runs, "task": compare_tasks}


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        print(__doc__)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    try:
        first = {key_of(run): run for run in reports.load(sys.argv[1])}
        second = reports.load(sys.argv[2])
        rows, worse = [], False
        for run in second:
            if key_of(run) in first:
                more, is_worse = COMPARISONS[run["kind"]](first[key_of(run)], run)
                rows += more
                worse |= is_worse
    except reports.ReportError as error:
        fail(str(error))
    except (KeyError, TypeError, IndexError) as error:
        fail(f"a run lacks what it should hold ({error!r})")
    if not rows:
        fail("nothing to compare: no run of one is of the same model, length and plans as one of the other")
    print(reports.table(["what", "plan", "A", "B", "B - A", ""], rows))
    sys.exit(1 if worse else 0)


def fail(message):
    print(f"compare_reports.py: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
