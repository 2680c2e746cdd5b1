#!/usr/bin/env python3
"""Runs the measurements of docs/results.md for one model, each as one command of tidal, into one folder of --report.

A measurement that the folder already holds is left out, so that an interrupted run goes on where it was. Tables are made from
the folder by tools/make_results.py.

usage: tools/run_results.py MODEL.gguf DIR [--tidal FILE] [--device cuda] [--only NAME[,NAME...]] [--limit SECONDS] [--print]

Names: presets, long, tasks, layers, free. --limit ends a measurement after so long; what it finished by then counts.
"""

import argparse
import pathlib
import shlex
import signal
import subprocess
import sys

import reports

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGETS = (128, 256, 512, 1024, 2048)
TASK_TEXT = "austen-emma.txt"
# By file name: contexts (the 8K of SmolLM2 ends where its context does), layers, and a set of layers that chooses well enough
# to be varied.
MODELS = {
    "smollm2-135m": {"contexts": (4096, 8064), "layers": 30, "select": (0, 1, 2, 6, 17, 21)},
    "qwen2.5-coder-0.5b": {"contexts": (8192, 16384), "layers": 24, "select": (0, 1, 2, 4, 12, 20)},
    "qwen2.5-coder-1.5b": {"contexts": (8192, 16384, 30720), "layers": 28, "select": (0, 1, 2, 15, 17, 20, 22)},
}


def presets():
    plans = ["full"]
    for budget in BUDGETS:
        plans += [f"{preset}:budget={budget}" for preset in ("tidal", "tidal-paper", "lessismore", "quest", "streaming", "omnikv", "kascade")]
        # Its own 128 sinks and 512 newest tokens need a budget above their sum.
        plans.append(f"tokenselect:budget={budget}" + ("" if budget >= 768 else ":sinks=16:recent=25%"))
    return plans + ["zipvl:mass=0.9", "zipvl:mass=0.95", "zipvl", "twilight:mass=0.8", "twilight", "twilight:mass=0.95"]


def spelled(layers):
    return "+".join(str(layer) for layer in layers)


def layer_sets(model):
    """The model's set, shifted by a layer, evenly spaced and as early as it can be; fewer of it; all."""
    base, count = model["select"], model["layers"]
    early = [layer for layer in base if layer <= 2]
    late = [layer for layer in base if layer > 2]
    even = sorted({round(i * (count - 1) / (len(base) - 1)) for i in range(len(base))})
    sets = [base, [*early, *(layer + 1 for layer in late)], [*early, *(layer - 1 for layer in late)], even, range(len(base)),
            [*early, late[-1]], late, [0, late[-1]]]
    return ["all", *(spelled(layers) for layers in sets)]


def loss(files, prefill, decode, plans, *more):
    texts = [part for file in files for part in ("-f", str(file))]
    return ["eval", "loss", *texts, "--prefill", str(prefill), "--decode", str(decode), "--attention", ",".join(plans), *more]


def measurements(name, model):
    """(name, arguments) of everything that is shown for a model."""
    files = sorted((ROOT / "data/eval/test").glob("*.txt"))
    files = [file.relative_to(ROOT) for file in files]
    chosen = f":select={spelled(model['select'])}"
    for context in model["contexts"]:
        yield "presets", loss(files, context, 64 if context < 16384 else 48, presets())
    for context in model["contexts"]:
        if name != "qwen2.5-coder-1.5b" or context < 16384:
            continue
        plans = ["tidal:budget=512:select=all", "tidal:budget=1024:select=all", "tidal:budget=1024", "tidal:budget=2048"]
        yield "long", loss(files, context, 840, plans)
    for context in model["contexts"]:
        plans = ["full", *(f"tidal:budget={budget}:select=all" for budget in (128, 512)), "tidal:budget=512",
                 *(f"{preset}:budget=512" for preset in ("quest", "tidal-paper", "lessismore", "streaming"))]
        for task in ("niah_single_2", "niah_multikey_1"):
            yield "tasks", ["eval", "task", task, "-f", f"data/eval/test/{TASK_TEXT}", "--lengths", str(context),
                            "--cases", "20", "--attention", ",".join(plans)]
    yield "layers", loss(files, model["contexts"][0], 64, [f"tidal:budget=512:select={layers}" for layers in layer_sets(model)])
    plans = ["full", *(f"tidal:budget=256{chosen}{more}" for more in ("", ":correct=turn", ":correct=128", ":recent=25%")),
             *(f"tidal-paper:budget=256{more}" for more in ("", ":correct=128", ":recent=64", ":recent=25%"))]
    yield "free", loss(files[:4], 4096, 256, plans, "--free-run", "2048", "--temp", "0.7")


def is_there(folder, arguments):
    """Whether a run of the folder has these arguments; only those of the measurement itself count."""
    if not (folder / "report.json").exists():
        return False
    wanted = set(arguments)
    return any(wanted <= set(shlex.split(run.get("command", ""))) and not run.get("interrupted") for run in reports.load(folder))


def run(command, limit):
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        return process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        return process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tidal", default=str(ROOT / "build/tidal"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="presets,long,tasks,layers,free")
    parser.add_argument("--limit", type=float)
    parser.add_argument("--print", action="store_true", dest="only_print")
    arguments = parser.parse_args()
    model = MODELS.get(arguments.model.stem)
    if model is None:
        sys.exit(f"run_results.py: nothing is known of {arguments.model.stem}, expected one of {', '.join(MODELS)}")
    for name, measurement in measurements(arguments.model.stem, model):
        if name not in arguments.only.split(","):
            continue
        command = [arguments.tidal, *measurement, "-m", str(arguments.model), "--device", arguments.device, "--report", str(arguments.folder)]
        try:
            if not arguments.only_print and is_there(arguments.folder, measurement):
                continue
        except reports.ReportError as error:
            sys.exit(f"run_results.py: {error}")
        print(shlex.join(command), flush=True)
        if arguments.only_print:
            continue
        code = run(command, arguments.limit)
        if code not in (0, 130):
            sys.exit(f"run_results.py: the command above ended with {code}")


if __name__ == "__main__":
    main()
