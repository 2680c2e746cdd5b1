#!/usr/bin/env python3
"""Fails on a path, command, flag or link in the documentation that does not exist.

Read are README.md, CONTRIBUTING.md, docs/ and the README.md of each folder; in them code spans, fenced blocks of
commands (bash, sh, console or no language) and links. A word is looked up if it is

  a path      src/kv/page_pool.h, docs/, src/cpu/kernels_*.cc   (* and {a,b} as in a shell)
  a file      page_pool.h, check_docs.py                        (somewhere in the repository)
  a variable  TIDAL_MODELS_DIR, -DTIDAL_CUDA=ON                 (used somewhere outside the documentation)
  a preset    cmake --preset asan                               (in CMakePresets.json)
  a command   tidal generate -m MODEL --temp 0                  (subcommand and flags are in `tidal ... --help`)
  a flag      --isa                                             (of some tidal command, or in a script)

Words with <, > or ..., and NAME_test.cc, stand for something and are not looked up, nor is what a build or a download makes.

usage: check_docs.py [--tidal BINARY] [ROOT]     (without BINARY no flag of tidal is checked)
"""

import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys

FOLDERS = "src|include|tests|bench|scripts|tools|docs|cmake|\\.ci"
PATH = re.compile(rf"^(?:\./)?((?:{FOLDERS})/[\w./*{{}},+-]*)$")
FILE = re.compile(r"^(?![A-Z]+_|-)[\w.-]+\.(?:cc|h|cu|cuh|py|sh|md|cmake|json)$")
VARIABLE = re.compile(r"^(?:-D)?(TIDAL_[A-Z0-9_]+)(?:=.*)?$")
LONG_FLAG = re.compile(r"^--[a-z][a-z0-9-]+$")
TIDAL = re.compile(r"^(?:\./)?(?:build/)?tidal$")
FENCE = re.compile(r"^\s*```\s*(\w*)")
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.MULTILINE)
SHELL_LANGUAGES = {"", "bash", "sh", "console"}
# Flags of programs that are not ours, where documentation shows them on their own.
FOREIGN_FLAGS = {"--help", "--version"}


def expand_braces(text):
    match = re.search(r"\{([^{}]*)\}", text)
    if not match:
        return [text]
    return [
        expanded
        for choice in match.group(1).split(",")
        for expanded in expand_braces(text[: match.start()] + choice + text[match.end() :])
    ]


def heading_anchor(heading):
    return re.sub(r"[^\w -]", "", heading.replace("`", "").lower()).replace(" ", "-")


def markdown_code(text):
    """The (line number, code) of each code span and each line of a fenced block of commands."""
    language = None
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if fence:
            language = fence.group(1) if language is None else None
        elif language is None:
            for span in SPAN.findall(line):
                yield number, span
        elif language in SHELL_LANGUAGES:
            yield number, line.strip()


class Binary:
    """The flags and subcommands of a tidal program, from its help."""

    def __init__(self, path):
        self.path = path
        self.help = {}

    def text(self, *subcommand):
        if subcommand not in self.help:
            command = [self.path, *subcommand, "--help"]
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
            self.help[subcommand] = run.stdout + run.stderr if run.returncode == 0 else None
        return self.help[subcommand]

    def flags(self, *subcommand):
        return set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", self.text(*subcommand) or ""))

    def is_group(self, *subcommand):
        """Whether the command consists of commands."""
        return "\nCommands:" in (self.text(*subcommand) or "")

    def subcommands(self, *group):
        """All commands under a group, those in groups of their own too."""
        names = re.findall(r"^\s{1,4}([a-z]+)\s{2,}\S", self.text(*group) or "", re.MULTILINE)
        found = [(*group, name) for name in names if self.text(*group, name) is not None]
        return found + [inner for outer in found if self.is_group(*outer) for inner in self.subcommands(*outer)]

    def all_flags(self):
        return set().union(self.flags(), *(self.flags(*name) for name in self.subcommands()))


class Checker:
    def __init__(self, root, tidal):
        self.root = root
        self.binary = Binary(tidal) if tidal else None
        self.problems = []
        listing = subprocess.run(
            ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
            capture_output=True, text=True, check=True,
        )
        files = [pathlib.Path(line) for line in listing.stdout.splitlines()]
        self.names = {path.name for path in files}
        self.pages = [path for path in files if self.is_page(path) and (root / path).exists()]
        others = [path for path in files if path.suffix in {".sh", ".py", ".txt", ".cmake", ".cc", ".h", ".json", ""}]
        self.sources = "\n".join(
            (root / path).read_text(encoding="utf-8", errors="replace")
            for path in others
            if "tests/data" not in str(path) and path.name != pathlib.Path(__file__).name and (root / path).is_file()
        )
        presets = json.loads((root / "CMakePresets.json").read_text(encoding="utf-8"))
        self.presets = {preset["name"] for preset in presets["configurePresets"]}

    @staticmethod
    def is_page(path):
        return path.suffix == ".md" and (path.parts[0] == "docs" or path.name in {"README.md", "CONTRIBUTING.md"})

    def check_path(self, word):
        for pattern in expand_braces(PATH.match(word).group(1)):
            pattern = pattern.rstrip("/.,")
            if not any(self.root.glob(pattern)):
                yield f"{pattern} does not exist"

    def check_word(self, word):
        """The problems of one word of code."""
        if re.search(r"[<>]|\.\.\.", word):
            return
        word = word.rstrip(",;:")
        variable = VARIABLE.match(word)
        if PATH.match(word):
            yield from self.check_path(word)
        elif FILE.match(word) and word not in self.names:
            yield f"no file is named {word}"
        elif variable and not re.search(rf"\b{variable.group(1)}\b", self.sources):
            yield f"nothing uses {variable.group(1)}"

    def check_tidal(self, words):
        """The problems of the arguments of one tidal command."""
        if self.binary is None:
            return
        subcommand = []
        for word in words:
            if not re.match(r"^[a-z]+$", word) or (subcommand and not self.binary.is_group(*subcommand)):
                break
            subcommand.append(word)
            if self.binary.text(*subcommand) is None:
                yield f"tidal has no command {' '.join(subcommand)}"
                return
        known = self.binary.flags(*subcommand)
        for word in words:
            flag = word.split("=")[0]
            if re.match(r"^--?[A-Za-z]", flag) and flag not in known:
                yield f"tidal {' '.join(subcommand)} has no flag {flag}"

    def check_code(self, code):
        code = re.sub(r"(^|\s)#\s.*", "", code.removeprefix("$ "))
        for command in re.split(r"\s*(?:\|\||&&|[|;])\s*", code):
            try:
                words = shlex.split(command)
            except ValueError:
                words = command.split()
            for word in words:
                yield from self.check_word(word)
            if words and TIDAL.match(words[0]):
                yield from self.check_tidal(words[1:])
            elif words and LONG_FLAG.match(words[0]) and words[0] not in FOREIGN_FLAGS:
                in_tidal = self.binary is None or words[0] in self.binary.all_flags()
                if not in_tidal and words[0] not in self.sources:
                    yield f"neither tidal nor a script has a flag {words[0]}"
            for flag, value in zip(words, words[1:]):
                if flag == "--preset" and words[0] in {"cmake", "ctest"} and value not in self.presets:
                    yield f"CMakePresets.json has no preset {value}"

    def check_link(self, page, target):
        if re.match(r"^[a-z]+:", target):
            return
        path, _, anchor = target.partition("#")
        file = (self.root / page).parent / path if path else self.root / page
        if not file.exists():
            yield f"link to {target}: {path} does not exist"
        elif anchor and file.suffix == ".md":
            headings = HEADING.findall(file.read_text(encoding="utf-8"))
            if anchor not in map(heading_anchor, headings):
                yield f"link to {target}: no such heading"

    def run(self):
        for page in self.pages:
            text = (self.root / page).read_text(encoding="utf-8")
            for number, code in markdown_code(text):
                for problem in self.check_code(code):
                    self.problems.append(f"{page}:{number}: {problem}")
            for number, line in enumerate(text.splitlines(), start=1):
                for target in LINK.findall(SPAN.sub("", line)):
                    for problem in self.check_link(page, target):
                        self.problems.append(f"{page}:{number}: {problem}")


def main():
    parser = argparse.ArgumentParser(description="Checks the documentation against the repository.")
    parser.add_argument("--tidal", help="the program whose --help has the flags")
    parser.add_argument("root", nargs="?", default=pathlib.Path(__file__).parent.parent)
    arguments = parser.parse_args()
    checker = Checker(pathlib.Path(arguments.root).resolve(), arguments.tidal)
    checker.run()
    for problem in checker.problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if checker.problems else 0)


if __name__ == "__main__":
    main()
