#!/usr/bin/env python3
"""Tests of the checkers beside it: what each must find, in small repositories made here. Run by scripts/test.sh.

usage: tools/checks_test.py
"""

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
