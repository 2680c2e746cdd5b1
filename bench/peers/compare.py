#!/usr/bin/env python3
"""Runs `tidal bench --shape` and bench/peers/flashinfer_step.py in turns on one GPU and prints what they need for a decode step.

A line for each shape, context and plan: milliseconds of both (the median of the rounds), their ratio, and how far above
its limit ours is: the bytes that the plan must read at the rate at which the card was measured to read.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

PEER = pathlib.Path(__file__).with_name("flashinfer_step.py")
PLANS = ("full,tidal-paper:full=0+1+2+13:select=2+13:scope=kv:merge=mass:budget=512,"
         "tidal:select=0+1+2+8+13+20+26:budget=1024,tidal:budget=1024")


def fail(message):
    sys.exit(f"compare.py: {message}")


def run(command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        fail(f"{command[0]}: {error.strerror}")
    if done.returncode != 0:
        fail(f"{command[0]} ended with {done.returncode}; what it wrote is above")
    return done.stdout


def our_rows(args, shape):
    out = run([args.tidal, "bench", "--shape", shape, "--weights", args.weights, "--device", args.device, "-ctk", "bf16",
               "-ctv", "bf16", "-p", "0", "-n", "64", "-r", "3", "-b", "512", "-d", args.contexts, "--attention", args.attention,
               "--json"])
    report = json.loads(out)
    return report["machine"], report["rows"]


def peer_rows(args, shape):
    out = run([args.python, str(PEER), "--shape", shape, "--contexts", args.contexts])
    return [json.loads(line) for line in out.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tidal", default="build-cuda/tidal", help="the program (default: %(default)s)")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch and flashinfer (default: this one)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", default="llama2-7b,llama3-8b")
    parser.add_argument("--contexts", default="10240,32768,102400")
    parser.add_argument("--weights", default="bf16", help="ours; the peer's are bf16")
    parser.add_argument("--attention", default=PLANS, help="our plans, as tidal bench takes them")
    parser.add_argument("--rounds", type=int, default=2, help="how often both take their turn (default: 2)")
    args = parser.parse_args()
    ours, limits, peers, order = {}, {}, {}, []
    for shape in args.shapes.split(","):
        for _ in range(args.rounds):
            for row in peer_rows(args, shape):
                peers.setdefault((shape, row["context"]), []).append(row["ms"])
            machine, rows = our_rows(args, shape)
            for row in rows:
                key = (shape, row["depth"], row["attention"])
                if key not in ours:
                    order.append(key)
                ours.setdefault(key, []).append(row["ms_per_token"])
                limits[key] = row["limit_ms_per_token"]
    print(f'{machine["device"]}, reads {machine["read_gbps"]:.0f} GB/s')
    print(f'{"shape":<10} {"context":>7} {"ours ms":>8} {"peer ms":>8} {"ours/peer":>9} {"limit ms":>8} {"of limit":>8}  plan')
    for key in order:
        shape, context, plan = key
        ms, peer = statistics.median(ours[key]), statistics.median(peers[shape, context])
        print(f"{shape:<10} {context:>7} {ms:>8.3f} {peer:>8.3f} {ms / peer:>9.2f} {limits[key]:>8.3f} "
              f"{ms / limits[key]:>8.2f}  {plan}")


if __name__ == "__main__":
    main()
