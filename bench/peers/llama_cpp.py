#!/usr/bin/env python3
"""Runs `tidal bench` and llama.cpp's llama-bench on the same model, taking turns, and prints them beside each other.

usage: bench/peers/llama_cpp.py -m MODEL.gguf [-d 0,8064] [-p 512] [-n 32] [-t 2] [-r 3] [--attention full,tidal] [--json]

The peer is, by default, the llama.cpp inside the source package of llama-cpp-python 0.3.36: it is fetched and its
llama-bench built for this machine, once, in a cache folder outside the repository. --llama-bench takes other builds,
also of ik_llama.cpp, and can be given several times: how their flags differ is read from their help, and --peer-args adds
to them.

Every repetition starts each program anew, Tidal first, so that a slow minute of the machine meets all. The figures are
medians over the repetitions, in tokens per second; ratios are those of Tidal's plans by each peer's.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
CMAKE_OPTIONS = [
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
]


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, **options):
    """What a command prints; its own errors pass through to ours."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, **options)
    if result.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}: exit code {result.returncode}")
    return result.stdout


def build_from_package(cache):
    """The llama-bench of the source package, fetched and built in the folder `cache` where it is not there yet."""
    folder = cache / f"{PACKAGE}-{VERSION}"
    program = folder / "build" / "bin" / "llama-bench"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{PACKAGE.replace('-', '_')}-{VERSION}.tar.gz"
    if not archive.exists():
        say(f"fetching the source of {PACKAGE} {VERSION}")
        run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE,
             "--dest", folder, f"{PACKAGE}=={VERSION}"])
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        archive.unlink()
        sys.exit(f"{archive}: another SHA-256 than expected; it is removed, run this again to fetch it anew")
    say(f"building llama-bench in {folder} (about 10 minutes on 2 cores)")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(folder)
    source = folder / archive.name.removesuffix(".tar.gz") / "vendor" / "llama.cpp"
    run(["cmake", "-S", source, "-B", folder / "build", "-G", "Ninja", *CMAKE_OPTIONS])
    run(["cmake", "--build", folder / "build", "--target", "llama-bench", "--parallel", str(os.cpu_count())])
    return program


class Peer:
    """A llama-bench program, of llama.cpp or of ik_llama.cpp."""

    def __init__(self, program, arguments):
        self.program = program
        self.arguments = arguments
        usage = run([program, "--help"], stderr=subprocess.STDOUT)
        # ik_llama.cpp has no depth; "-gp N,M" decodes M tokens after a prompt of N.
        self.has_depth = "--n-depth" in usage
        self.name = "llama.cpp" if self.has_depth else "ik_llama.cpp"
        self.flags = ["-fa", "on" if re.search(r"--flash-attn <on", usage) else "1"]
        if "--run-time-repack" in usage:
            self.flags += ["-rtr", "1"]

    def command(self, tests):
        words = [self.program, "-m", self.arguments.model, "-t", self.arguments.threads, "-r", 1, "-o", "json",
                 "-ctk", self.arguments.cache_type, "-ctv", self.arguments.cache_type, *self.flags, *tests]
        return [str(word) for word in words] + shlex.split(self.arguments.peer_args)

    def measure(self):
        """One repetition: (test, depth), column and tokens per second."""
        a = self.arguments
        if self.has_depth:
            runs = [["-p", a.prompt, "-n", 0]] if a.prompt else []
            runs += [["-p", 0, "-n", a.predict, "-d", ",".join(map(str, a.depths))]] if a.predict else []
        else:
            at_depth = [word for depth in a.depths if depth and a.predict for word in ("-gp", f"{depth},{a.predict}")]
            runs = [["-p", a.prompt, "-n", a.predict if 0 in a.depths else 0, *at_depth]]
        for tests in runs:
            for row in json.loads(run(self.command(tests), stderr=subprocess.DEVNULL)):
                yield self.test_of(row), self.name, row["avg_ts"]

    @staticmethod
    def test_of(row):
        prompt, generated = int(row["n_prompt"]), int(row["n_gen"])
        if generated == 0:
            return f"pp{prompt}", int(row.get("n_depth", 0))
        return f"tg{generated}", int(row.get("n_depth", prompt))


class Tidal:
    name = "tidal"

    def __init__(self, program, arguments):
        self.program = program
        self.arguments = arguments
        self.machine = {}

    def measure(self):
        a = self.arguments
        runs = [["-p", a.prompt, "-n", 0, "-d", 0]] if a.prompt else []
        decode = ["-p", 0, "-n", a.predict, "-d", ",".join(map(str, a.depths)), "--attention", a.attention]
        runs += [decode] if a.predict else []
        for tests in runs:
            words = [self.program, "bench", "-m", a.model, "-t", a.threads, "-r", 1, "--json",
                     "-ctk", a.cache_type, "-ctv", a.cache_type, *tests]
            report = json.loads(run([str(word) for word in words] + shlex.split(a.tidal_args)))
            self.machine = report["machine"]
            for row in report["rows"]:
                yield (row["test"], row["depth"]), f"tidal, {row['attention']}", row["tokens_per_s"]["median"]


def summarize(samples):
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}


def compare(programs, repetitions):
    """The rows of the report: a column of tokens per second for each plan and peer."""
    samples = {}
    for repetition in range(repetitions):
        for program in programs:
            say(f"repetition {repetition + 1} of {repetitions}: {program.name}")
            for test, column, rate in program.measure():
                samples.setdefault(test, {}).setdefault(column, []).append(rate)
    return [{"test": test, "depth": depth, "tokens_per_s": {column: summarize(rates) for column, rates in columns.items()}}
            for (test, depth), columns in sorted(samples.items())]


def table(rows, peers):
    lines = [f"{'test':<6} {'depth':>6}  {'':<44} {'tokens/s':<24} by {', by '.join(peers)}"]
    for row in rows:
        rates = row["tokens_per_s"]
        for column, rate in rates.items():
            ratios = [f"{rate['median'] / rates[peer]['median']:.2f}x" for peer in peers if peer in rates]
            lines.append(f"{row['test']:<6} {row['depth']:>6}  {column:<44} "
                         f"{rate['median']:7.1f} ({rate['min']:.1f} .. {rate['max']:.1f})".ljust(85)
                         + ("" if column in peers else " ".join(ratios)))
    return "\n".join(lines)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n\n".join(__doc__.strip().split("\n\n")[2:]))
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tidal" / "peers"
    parser.add_argument("-m", "--model", required=True, help="a GGUF file")
    parser.add_argument("-p", "--prompt", type=int, default=512, help="tokens of the prefill test (default: 512)")
    parser.add_argument("-n", "--predict", type=int, default=32, help="tokens of the decode tests (default: 32)")
    parser.add_argument("-d", "--depths", default="0", help="tokens in the cache before each decode test (default: 0)")
    parser.add_argument("-t", "--threads", type=int, default=2, help="default: 2")
    parser.add_argument("-r", "--repetitions", type=int, default=3, help="default: 3")
    parser.add_argument("--cache-type", default="f16", help="element type of K and V (default: f16)")
    parser.add_argument("--tidal", default=ROOT / "build" / "tidal", help="the program (default: build/tidal)")
    parser.add_argument("--tidal-args", default="", help="more flags for `tidal bench`, as one word")
    parser.add_argument("--attention", default="full", help="our plans for the decode tests (default: full)")
    parser.add_argument("--llama-bench", action="append", help="a peer's program, again for another (default: built from the package)")
    parser.add_argument("--peer-args", default="", help="more flags for llama-bench, as one word")
    parser.add_argument("--cache-dir", type=pathlib.Path, default=cache, help="where the package is built (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    try:
        arguments.depths = sorted({int(depth) for depth in arguments.depths.split(",")})
    except ValueError:
        parser.error(f"--depths is {arguments.depths}, expected numbers with commas between them")
    if arguments.repetitions < 1:
        parser.error(f"--repetitions is {arguments.repetitions}, expected at least 1")
    for path in (arguments.model, arguments.tidal, *(arguments.llama_bench or [])):
        if not pathlib.Path(path).exists():
            parser.error(f"{path} does not exist")
    return arguments


def main():
    arguments = parse_arguments()
    programs = arguments.llama_bench or [build_from_package(arguments.cache_dir)]
    tidal, peers = Tidal(arguments.tidal, arguments), [Peer(program, arguments) for program in programs]
    rows = compare([tidal, *peers], arguments.repetitions)
    if arguments.json:
        report = {"model": str(arguments.model), "machine": tidal.machine,
                  "peers": {peer.name: [str(peer.program), *peer.flags] for peer in peers},
                  "threads": arguments.threads, "cache_type": arguments.cache_type, "rows": rows}
        print(json.dumps(report, indent=2))
    else:
        print(table(rows, [peer.name for peer in peers]))
        print(f"this machine reads {tidal.machine['read_gbps']:.1f} GB/s")


if __name__ == "__main__":
    main()
