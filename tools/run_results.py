#!/usr/bin/env python3
"""Runs the measurements of docs/results.md for one model, each as one command of tidal, into one folder of --report.

A measurement that the folder already holds is left out, so that an interrupted run goes on where it was. Tables are made from
the folder by tools/make_results.py. The plan that is calibrated goes beside the model, where the other measurements find it;
what it was chosen by stays in the folder, for a calibration with another target (tidal calibrate --state).

usage: tools/run_results.py MODEL.gguf DIR [--tidal FILE] [--device cuda] [--threads N] [--only NAME[,NAME...]]
                            [--context N[,N...]] [--limit SECONDS] [--print]

Names, in their order: calibrate, long-every, long-calibrated, presets, calibrated, needles, keys, layers, free. --context leaves out other contexts.
--limit ends a measurement after so long; what it finished by then counts.
"""

import argparse
import json
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time

import reports

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGETS = (128, 256, 512, 1024, 2048)
TASK_TEXT = "austen-emma.txt"
# By file name: contexts (the 8K of SmolLM2 ends where its context does), where the plan is calibrated and for which target,
# layers, a set of layers that chooses well enough to be varied, and the contexts of long texts.
MODELS = {
    "smollm2-135m": {"contexts": (4096, 8064), "calibrate": (8064, "--max-scan", "4%"), "layers": 30,
                     "select": (0, 1, 2, 6, 17, 21), "long": (4096,)},
    "qwen2.5-coder-0.5b": {"contexts": (8192, 16384), "calibrate": (8192, "--max-scan", "4%"), "layers": 24,
                           "select": (0, 1, 2, 4, 12, 20), "long": ()},
    "qwen2.5-coder-1.5b": {"contexts": (8192, 16384, 30720), "calibrate": (16384, "--max-scan", "4%"), "layers": 28,
                           "select": (0, 1, 2, 15, 17, 20, 22), "long": (16384, 30720)},
}
LONG_WINDOWS, LONG_DECODE = 3, 280  # of each of the twelve documents: 10,080 tokens
NAMES = ("calibrate", "long-every", "long-calibrated", "presets", "calibrated", "needles", "keys", "layers", "free")
# A GPU is busy with many rows only.
GPU_PREFILL = ("-b", "2048", "-ub", "2048")


def presets():
    plans = ["full"]
    for budget in BUDGETS:
        plans += [f"{preset}:budget={budget}" for preset in ("tidal:select=all", "tidal-paper", "lessismore", "quest", "streaming", "omnikv", "kascade")]
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


def sidecar_of(model_path):
    return model_path.with_suffix(".tidal.json")


def calibrated_scorer(model_path):
    """The index that the calibrated plan beside the model chooses by."""
    try:
        sidecar = json.loads(sidecar_of(model_path).read_text(encoding="utf-8"))
        return sidecar["plans"][0]["scorer"]
    except (OSError, ValueError, KeyError, IndexError):
        return "index4"


class Measurements:
    def __init__(self, model_path, device):
        self.path = model_path
        self.model = MODELS[model_path.stem]
        self.is_gpu = device != "cpu"
        self.files = [file.relative_to(ROOT) for file in sorted((ROOT / "data/eval/test").glob("*.txt"))]

    def loss(self, files, prefill, decode, plans, *more, windows=12):
        """`windows` of them run side by side on a GPU."""
        texts = [part for file in files for part in ("-f", str(file))]
        gpu = (*GPU_PREFILL, "--side-by-side", str(windows)) if self.is_gpu else ()
        return ["eval", "loss", *texts, "--prefill", str(prefill), "--decode", str(decode), "--attention", ",".join(plans), *more, *gpu]

    def calibrate(self):
        context, *target = self.model["calibrate"]
        texts = [part for file in sorted((ROOT / "data/eval/calibration").glob("*.txt")) for part in ("-f", str(file.relative_to(ROOT)))]
        return ["calibrate", *texts, "--prefill", str(context), *target, "--no-speed", "--decode", "32",
                *(GPU_PREFILL if self.is_gpu else ())]

    def long(self, context, plans):
        return self.loss(self.files, context, LONG_DECODE, plans, "--windows", str(LONG_WINDOWS))

    def long_every(self, context):
        return self.long(context, [f"tidal:budget={budget}:select=all{more}" for budget in (512, 1024)
                                   for more in ("", ":scope=kv", ":correct=64", ":scope=kv:correct=64")])

    # By themselves: a cache has one index, of the most bits that any plan beside it asks for.
    def long_calibrated(self, context):
        scorer = calibrated_scorer(self.path)
        return self.long(context, [f"tidal:budget={budget}{more}" for budget in (1024, 2048)
                                   for more in ("", ":correct=64", ":scope=kv", ":scope=kv:correct=64", f":select=all:scorer={scorer}")])

    def presets(self, context):
        return self.loss(self.files, context, 64 if context < 16384 else 48, presets(), windows=4)

    def calibrated(self, context):
        scorer = calibrated_scorer(self.path)
        plans = [plan for budget in BUDGETS for plan in (f"tidal:budget={budget}", f"tidal:budget={budget}:select=all:scorer={scorer}")]
        return self.loss(self.files, context, 128, plans)

    def task(self, name, context):
        plans = ["full", f"tidal:budget=512:select=all:scorer={calibrated_scorer(self.path)}", "tidal:budget=512",
                 *(f"{preset}:budget=512" for preset in ("quest", "tidal-paper", "lessismore", "streaming"))]
        return ["eval", "task", name, "-f", f"data/eval/test/{TASK_TEXT}", "--lengths", str(context), "--cases", "20",
                "--attention", ",".join(plans), *(GPU_PREFILL if self.is_gpu else ())]

    def needles(self, context):
        return self.task("niah_single_2", context)

    def keys(self, context):
        return self.task("niah_multikey_1", context)

    def layers(self, context):
        return self.loss(self.files, context, 64, [f"tidal:budget=512:select={layers}" for layers in layer_sets(self.model)])

    def free(self, context):
        chosen = ":select=" + spelled(self.model["select"])
        plans = ["full", *(f"tidal:budget=256{chosen}{more}" for more in ("", ":correct=turn", ":correct=128", ":recent=25%")),
                 *(f"tidal-paper:budget=256{more}" for more in ("", ":correct=128", ":recent=64", ":recent=25%"))]
        return self.loss(self.files[:4], context, 256, plans, "--free-run", "2048", "--temp", "0.7", windows=4)

    def all(self):
        """(name, context, arguments) of everything that is shown for the model."""
        contexts = self.model["contexts"]
        long = [context for context in contexts if context in self.model["long"]]
        presets = [context for context in contexts if context <= 16384]
        yield "calibrate", self.model["calibrate"][0], self.calibrate()
        for name, make, at in (("long-every", self.long_every, long), ("long-calibrated", self.long_calibrated, long),
                               ("presets", self.presets, presets), ("calibrated", self.calibrated, contexts),
                               ("needles", self.needles, contexts), ("keys", self.keys, contexts),
                               ("layers", self.layers, contexts[:1]), ("free", self.free, [4096])):
            for context in at:
                yield name, context, make(context)


def is_there(file, arguments):
    """Whether a run of the report has these arguments; only those of the measurement itself count."""
    if not file.exists():
        return False
    wanted = set(arguments)
    return any(wanted <= set(shlex.split(run.get("command", ""))) and not run.get("interrupted") for run in reports.load(file))


def run(command, limit):
    """The exit code and standard output."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output)
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait()
        output.seek(0)
        return code, output.read()


def keep_calibration(command, output, sidecar, started, file):
    """What `tidal calibrate --json` says, as a run of a report."""
    runs = reports.load(file) if file.exists() else []
    model_hash = json.loads(sidecar.read_text(encoding="utf-8"))["model_hash"]
    runs.append({"kind": "calibration", "command": shlex.join(command), "model_hash": model_hash,
                 "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)), "seconds": time.time() - started, **json.loads(output)})
    file.write_text(json.dumps({"format": reports.FORMAT, "runs": runs}, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tidal", default=str(ROOT / "build/tidal"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default=",".join(NAMES))
    parser.add_argument("--context")
    parser.add_argument("--limit", type=float)
    parser.add_argument("--print", action="store_true", dest="only_print")
    arguments = parser.parse_args()
    if arguments.model.stem not in MODELS:
        sys.exit(f"run_results.py: nothing is known of {arguments.model.stem}, expected one of {', '.join(MODELS)}")
    arguments.folder.mkdir(exist_ok=True)
    contexts = None if arguments.context is None else [int(context) for context in arguments.context.split(",")]
    for name, context, measurement in Measurements(arguments.model, arguments.device).all():
        if name not in arguments.only.split(",") or (contexts is not None and context not in contexts):
            continue
        file = arguments.folder / ("calibration.json" if name == "calibrate" else "report.json")
        command = [arguments.tidal, *measurement, "-m", str(arguments.model), "--device", arguments.device]
        if arguments.threads is not None:
            command += ["-t", str(arguments.threads)]
        if name == "calibrate":
            command += ["--json", "--state", str(arguments.folder / f"{arguments.model.stem}.state")]
        else:
            command += ["--report", str(arguments.folder)]
        try:
            if not arguments.only_print and is_there(file, measurement):
                continue
        except reports.ReportError as error:
            sys.exit(f"run_results.py: {error}")
        print(shlex.join(command), flush=True)
        if arguments.only_print:
            continue
        started = time.time()
        code, output = run(command, arguments.limit)
        print(output, flush=True)
        if code not in (0, 130):
            sys.exit(f"run_results.py: the command above ended with {code}")
        if name == "calibrate" and code == 0:
            keep_calibration(command, output, sidecar_of(arguments.model), started, file)


if __name__ == "__main__":
    main()
