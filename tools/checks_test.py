#!/usr/bin/env python3
"""Tests of the checkers beside it: what each must find, in small repositories made here. Run by scripts/test.sh.

usage: tools/checks_test.py
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOOLS = pathlib.Path(__file__).resolve().parent

FAKE_TIDAL = """#!/bin/sh
case "$1" in
  --help) echo "Commands:"; echo "  speak    says something" ;;
  speak) echo "  -n,--count N  how often"; echo "  --loud" ;;
  *) exit 2 ;;
esac
"""


class Repository:
    """A folder with files given as {path: text}, under git, for the time of a test."""

    def __init__(self, test, files):
        folder = tempfile.TemporaryDirectory()
        test.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for path, text in files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text, encoding="utf-8")
        subprocess.run(["git", "init", "--quiet", self.root], check=True)

    def run(self, tool, *arguments):
        command = [sys.executable, TOOLS / tool, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)


class CheckLayers(unittest.TestCase):
    FILES = {
        "CMakeLists.txt": "add_subdirectory(src/base)\nadd_subdirectory(src/kv)\nadd_subdirectory(src/engine)\n",
        "src/base/CMakeLists.txt": "tidal_library(base DEPS fmt::fmt)",
        "src/kv/CMakeLists.txt": "tidal_library(kv DEPS tidal_base TEST_DEPS tidal_engine)",
        "src/engine/CMakeLists.txt": "tidal_library(engine DEPS tidal_kv)",
        "src/base/a.h": "#include <string>\n",
        "src/kv/b.h": '#include "base/a.h"\n#include "kv/b.h"\n',
        "src/engine/c.cc": '#include "kv/b.h"\n#include "tidal/api.h"\n',
        "include/tidal/api.h": "#include <string>\n",
        "tests/t.cc": '#include "engine/c.cc"\n',
    }

    def problems(self, changes):
        repository = Repository(self, {**self.FILES, **changes})
        result = repository.run("check_layers.py", repository.root)
        self.assertEqual(result.returncode, 1 if result.stderr else 0)
        return result.stderr

    def test_a_clean_tree_passes(self):
        self.assertEqual(self.problems({}), "")

    def test_an_include_up_the_ladder(self):
        found = self.problems({"src/base/a.h": '#pragma once\n#include "kv/b.h"\n'})
        self.assertIn("src/base/a.h:2: base/ may not include kv/", found)

    def test_an_include_in_angle_brackets_does_not_hide(self):
        self.assertIn("base/ may not include kv/", self.problems({"src/base/a.h": "#include <kv/b.h>\n"}))

    def test_a_link_up_the_ladder(self):
        found = self.problems({"src/base/CMakeLists.txt": "tidal_library(base DEPS tidal_kv)"})
        self.assertIn("base may not link tidal_kv", found)

    def test_a_folder_without_a_layer(self):
        self.assertIn("src/extra", self.problems({"src/extra/x.cc": ""}))

    def test_files_that_do_not_exist(self):
        self.assertIn("src/base/gone.h does not exist", self.problems({"src/kv/b.h": '#include "base/gone.h"\n'}))
        self.assertIn("gone.h does not exist", self.problems({"tests/t.cc": '#include "engine/gone.h"\n'}))

    def test_an_include_relative_to_the_file(self):
        self.assertIn('"a.h" is neither', self.problems({"src/base/x.cc": '#include "a.h"\n'}))

    def test_public_headers(self):
        self.assertIn("may not include base/a.h", self.problems({"include/tidal/api.h": '#include "base/a.h"\n'}))
        self.assertIn("kv/ may not include the public", self.problems({"src/kv/b.h": '#include "tidal/api.h"\n'}))


class CheckDocs(unittest.TestCase):
    FILES = {
        "CMakePresets.json": '{"configurePresets": [{"name": "release"}]}',
        "CMakeLists.txt": "option(TIDAL_FAST)",
        "src/kv/page.h": "",
        "tool.sh": "--quick",
    }

    def problems(self, text):
        repository = Repository(self, {**self.FILES, "docs/page.md": text, "bin/tidal": FAKE_TIDAL})
        tidal = repository.root / "bin" / "tidal"
        tidal.chmod(0o755)
        result = repository.run("check_docs.py", "--tidal", tidal, repository.root)
        self.assertEqual(result.returncode, 1 if result.stderr else 0, result.stderr)
        return result.stderr

    def test_what_exists_passes(self):
        text = (
            "# Some heading\n`src/kv/page.h`, `page.h`, `src/kv/*.h`, `src/{kv}`, `-DTIDAL_FAST=ON`, `--quick`, `--loud`\n"
            "```bash\n$ build/tidal speak -n 3 --loud | cat  # --not-a-flag\ncmake --preset release\n```\n"
            "`src/<name>/x.h`, `NAME_test.cc`, [here](#some-heading), [there](../src/kv/page.h), [out](https://x.y/z)\n"
        )
        self.assertEqual(self.problems(text), "")

    def test_what_does_not_exist_is_named_with_its_line(self):
        for text, expected in {
            "\n`src/kv/gone.h`": "docs/page.md:2: src/kv/gone.h does not exist",
            "`src/kv/g*.h`": "src/kv/g*.h does not exist",
            "`src/{kv,gone}/`": "src/gone does not exist",
            "`gone.h`": "no file is named gone.h",
            "`TIDAL_GONE`": "nothing uses TIDAL_GONE",
            "`tidal sing`": "tidal has no command sing",
            "`tidal speak --gone`": "tidal speak has no flag --gone",
            "```bash\nx && build/tidal speak -g 3\n```": "tidal speak has no flag -g",
            "`--gone`": "neither tidal nor a script has a flag --gone",
            "`cmake --preset gone`": "no preset gone",
            "[x](gone.md)": "link to gone.md",
            "[x](#gone)": "link to #gone: no such heading",
        }.items():
            self.assertIn(expected, self.problems(text), text)


class CountTests(unittest.TestCase):
    FILES = {
        "release/ctest.xml": (
            '<testsuite><testcase name="a" status="run"/><testcase name="b" status="fail"/>'
            '<testcase name="c" status="fail"/><testcase name="d" status="run"/></testsuite>'
        ),
        "release/a.xml": (
            '<testsuites><testsuite><testcase classname="S" name="ok" status="run" result="completed"/>'
            '<testcase classname="S" name="off" status="notrun" result="suppressed"/>'
            '<testcase classname="S" name="no" status="run" result="skipped"><skipped message="f.cc:1&#10;no model"/>'
            "</testcase></testsuite></testsuites>"
        ),
        "release/b.xml": (
            '<testsuites><testsuite><testcase classname="S" name="bad" status="run" result="completed">'
            '<failure message="x"/></testcase></testsuite></testsuites>'
        ),
        "release/c.xml": (
            '<testsuites><testsuite><testcase classname="S" name="ok" status="run" result="completed"/>'
            "</testsuite></testsuites>"
        ),
    }

    def test_tests_crashes_and_skips(self):
        repository = Repository(self, self.FILES)
        lines = repository.run("count_tests.py", repository.root).stdout.splitlines()
        self.assertEqual(lines[-1], "3 passed, 2 failed, 1 skipped")
        self.assertIn("skipped: release: a S.no: no model", lines)
        self.assertIn("failed: release: b S.bad", lines)
        self.assertIn("failed: release: c", lines)


def estimate(value):
    return {"value": value, "low": 0.5 * value, "high": 1.5 * value}


def loss_run(window_kl, **changes):
    plan = {"plan": "tidal:budget=512", "tokens": 8, "kl": estimate(sum(window_kl) / len(window_kl)), "window_kl": window_kl}
    windows = [{"document": i // 2, "begin": i} for i in range(len(window_kl))]
    run = {"kind": "loss", "command": "tidal eval loss -m 'a|b'", "model": "m.gguf", "model_hash": "ab" * 32, "prefill": 4096, "decode": 2,
           "documents": ["a", "b", "c"], "windows": windows, "plans": [plan], "full_nats": estimate(2.0)}
    return {**run, **changes}


def task_run(right):
    cell = {"task": "niah_single_1", "length": 4096, "depth": 0.5, "plan": 0, "scores": [[i, int(i < right)] for i in range(20)]}
    total = {**cell, "depth": None, "cases": 20, "right": right, "score": right / 20, "low": 0, "high": 1}
    return {"kind": "task", "model_hash": "cd" * 32, "question": "prefill", "seed": 1, "plans": ["tidal"], "cells": [cell], "totals": [total]}


class Reports(unittest.TestCase):
    def run_tool(self, tool, *runs_of_reports, format_number=1):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number, runs in enumerate(runs_of_reports):
                path = pathlib.Path(folder) / f"{number}.json"
                path.write_text(json.dumps({"format": format_number, "runs": runs}), encoding="utf-8")
                paths.append(path)
            return subprocess.run([sys.executable, TOOLS / tool, *paths], capture_output=True, text=True, check=False)

    def test_a_loss_that_grew_in_every_document(self):
        first = [0.1, 0.2, 0.1, 0.2, 0.1, 0.2]
        result = self.run_tool("compare_reports.py", [loss_run(first)], [loss_run([kl + 0.01 for kl in first])])
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("+0.01 (+0.01 to +0.01) | WORSE", result.stdout)

    def test_a_loss_that_grew_here_and_fell_there(self):
        result = self.run_tool("compare_reports.py", [loss_run([0.1] * 6)], [loss_run([0.2, 0.2, 0.05, 0.05, 0.1, 0.1])])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("WORSE", result.stdout)

    def test_other_windows_are_compared_by_their_intervals(self):
        for second, code in ((0.2, 0), (0.9, 1)):
            result = self.run_tool("compare_reports.py", [loss_run([0.1] * 6)], [loss_run([second] * 6, decode=3)])
            self.assertEqual(result.returncode, code, result.stdout + result.stderr)
            self.assertIn("other windows", result.stdout)

    def test_tasks_are_compared_case_by_case(self):
        for right, code in ((20, 0), (17, 0), (12, 1)):
            result = self.run_tool("compare_reports.py", [task_run(20)], [task_run(right)])
            self.assertEqual(result.returncode, code, result.stdout + result.stderr)

    def test_what_cannot_be_compared(self):
        for first, second, format_number in (([], [], 1), ([loss_run([1.0] * 6)], [task_run(1)], 1), ([], [], 7), ([{"kind": "loss"}] * 2, [{"kind": "loss"}], 1)):
            result = self.run_tool("compare_reports.py", first, second, format_number=format_number)
            self.assertEqual(result.returncode, 2)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)

    def test_tables_of_results_name_their_commands(self):
        result = self.run_tool("make_results.py", [loss_run([0.1] * 6)], [task_run(12)])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("### m.gguf: loss at 4096 tokens", result.stdout)
        self.assertIn("tidal eval loss -m 'a|b'", result.stdout)
        self.assertIn("| `tidal:budget=512` | 0.100 (0.0500 to 0.150) | – |", result.stdout)
        self.assertIn("| `tidal` | niah_single_1 | 4096 | 20 | 60.0 |", result.stdout)

    def test_the_texts_of_a_whole_folder_are_named_at_once(self):
        names = [f"-f data/eval/test/{file.name}" for file in sorted((TOOLS.parent / "data/eval/test").glob("*.txt"))]
        for given, shown in ((names, "tidal eval loss $TEST_TEXTS -m x"),
                             (names[1:], f"tidal eval loss {' '.join(names[1:])} -m x")):
            run = loss_run([0.1] * 6, command=f"tidal eval loss {' '.join(given)} -m x")
            run["plans"][0]["kl_along"] = [0.125, 0.25, None, 0.5]
            result = self.run_tool("make_results.py", [run])
            self.assertIn(f"```bash\n{shown}\n```", result.stdout, result.stderr)
            self.assertIn("| 0.12 0.25 – 0.50 |", result.stdout)

    def test_tables_say_which_presets_read_less_for_their_loss(self):
        def plan(preset, kl, size):
            speed = {"scan_bytes": 0, "gather_bytes": size, "full_bytes": 0}
            return {"plan": preset, "preset": preset, "kl": estimate(kl), "speed": speed}

        for others, said in (([plan("quest", 0.2, 9)], "no plan of another preset"), ([plan("streaming", 0.2, 3)], "`streaming` read less"), ([plan("quest", 0.01, 9)], "here: `quest`.")):
            result = self.run_tool("make_results.py", [loss_run([0.1] * 6, plans=[plan("tidal", 0.1, 5), *others])])
            self.assertIn(said, result.stdout, result.stderr)

    def test_calibrations_are_tables(self):
        point = {"budget": 512, "scope": "shared", "index_bits": 2, "select": [0, 2], "kl": 0.0125, "scan_bytes": 5e6, "gather_bytes": 10e6}
        plan = {**point, "held_out_kl": estimate(0.02), "every_layer_kl": estimate(0.01)}
        run = {"kind": "calibration", "command": "tidal calibrate", "model": "m", "model_hash": "x" * 20, "prefill": 4096, "decode": 24, "held_out_decode": 48,
               "texts": ["a"] * 6, "held_out": ["b"] * 5, "target": {"max_scan": 0.04}, "full_bytes": 100e6, "plans": [plan],
               "front": [{**point, "select": [0, 1, 2, 3]}], "started": "2026-01-01T00:00:00Z", "seconds": 5}
        result = self.run_tool("make_results.py", [run])
        self.assertIn("the least KL with at most 4.00 % of the cache scanned. 6 texts of 24", result.stdout, result.stderr)
        self.assertIn("| 512 | 2: 0+2 | shared | 2 | 5.00 | 15.0 | 20.0 | 0.0125 | 0.0200 (0.0100 to 0.0300) | 0.0100 (0.00500 to 0.0150) |", result.stdout)
        self.assertIn("\nmodel hash `xxxxxxxxxxxx`, 2026-01-01T00:00:00Z, 5.00 s.", result.stdout)

    def test_free_runs_are_tables_and_compared(self):
        def run(kl):
            plan = {"plan": "tidal", "kl": estimate(kl), "length": estimate(20), "repetition": estimate(0.5), "kl_along": [0.1, kl, None],
                    "attention": {"correction_rows": 16, "correction_kl": 0.25}}
            return {"kind": "free_run", "model": "m", "model_hash": "x", "prefill": 64, "generate": 32, "temperature": 0.7, "windows": [{}, {}], "plans": [plan]}

        table = self.run_tool("make_results.py", [run(0.2)])
        self.assertIn("| `tidal` | 0.200 (0.100 to 0.300) | 0.100 | 0.200 | 20.0 (10.0 to 30.0) | 50.0 (25.0 to 75.0) | 16 | 0.250 |", table.stdout, table.stderr)
        self.assertEqual(self.run_tool("compare_reports.py", [run(0.2)], [run(0.3)]).returncode, 0)
        self.assertEqual(self.run_tool("compare_reports.py", [run(0.2)], [run(0.9)]).returncode, 1)

    def test_tables_go_below_the_line_that_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            report, page = pathlib.Path(folder) / "r.json", pathlib.Path(folder) / "page.md"
            report.write_text(json.dumps({"format": 1, "runs": [loss_run([0.1] * 6)]}), encoding="utf-8")
            for before, code in (("# Mine\n", 1), ("# Mine\n\n<!-- The tables below are written by tools/make_results.py. -->\nold", 0)):
                page.write_text(before, encoding="utf-8")
                command = [sys.executable, TOOLS / "make_results.py", report, "--into", page, "--path", "a|b=models/b"]
                self.assertEqual(subprocess.run(command, capture_output=True, check=False).returncode, code)
            text = page.read_text(encoding="utf-8")
            self.assertTrue(text.startswith("# Mine"))
            self.assertIn("### m.gguf", text)
            self.assertIn("-m 'models/b'", text)
            self.assertNotIn("old", text)


class EvalData(unittest.TestCase):
    def test_the_texts_that_ship_are_what_their_sums_say(self):
        result = subprocess.run([sys.executable, TOOLS / "make_eval_data.py", "--check"], capture_output=True, text=True, check=False)
        self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_what_was_changed_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "eval"
            shutil.copytree(TOOLS.parent / "data" / "eval", copy)
            (copy / "test" / "austen-emma.txt").write_text("short", encoding="utf-8")
            (copy / "licences" / "xxhash-c.txt").unlink()
            result = subprocess.run([sys.executable, TOOLS / "make_eval_data.py", "--check", copy], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("test/austen-emma.txt: not what SHA256SUMS says", result.stderr)
        self.assertIn("austen-emma: 5 bytes", result.stderr)
        self.assertIn("licences/xxhash-c.txt: missing", result.stderr)


class Scripts(unittest.TestCase):
    def test_what_starts_with_an_interpreter_can_be_started(self):
        for folder in (".ci", "scripts", "tools", "bench"):
            for path in (TOOLS.parent / folder).rglob("*"):
                if path.is_file() and path.read_bytes().startswith(b"#!"):
                    self.assertTrue(path.stat().st_mode & 0o100, f"{path} is not executable")


if __name__ == "__main__":
    unittest.main()
