#!/usr/bin/env python3
"""Fails on an include (or a link dependency) that points up the ladder of layers.

The ladder is the order of the add_subdirectory(src/...) lines of the top CMakeLists.txt: a folder of src may use itself
and the folders above it in that list. The public headers in include/ use nothing of src, and are for the engine, what
comes below it in the list, tests and benchmarks. Tests and benchmarks may use everything.

usage: check_layers.py [ROOT]
"""

import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
FIRST_PUBLIC_USER = "engine"
EXTENSIONS = {".cc", ".h", ".cu", ".cuh"}


def read_ladder(root):
    text = (root / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.findall(r"^\s*add_subdirectory\(src/(\w+)\)", text, re.MULTILINE)


def sources(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix in EXTENSIONS)


def includes(path):
    """The (line number, is quoted, name) of each include of a file."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


class Checker:
    def __init__(self, root):
        self.root = root
        self.ladder = read_ladder(root)
        self.problems = []

    def report(self, path, number, text):
        self.problems.append(f"{path.relative_to(self.root)}:{number}: {text}")

    def check_layer(self, layer, path):
        below_engine = self.ladder.index(layer) >= self.ladder.index(FIRST_PUBLIC_USER)
        allowed = self.ladder[: self.ladder.index(layer) + 1]
        for number, quoted, name in includes(path):
            folder = name.split("/")[0] if "/" in name else None
            if folder in self.ladder:
                if not quoted:
                    self.report(path, number, f'<{name}> is our own: write "{name}"')
                if folder not in allowed:
                    self.report(path, number, f"{layer}/ may not include {folder}/, which is below it in CMakeLists.txt")
                elif not (self.root / "src" / name).exists():
                    self.report(path, number, f"src/{name} does not exist")
            elif folder == "tidal":
                if not below_engine:
                    self.report(path, number, f"{layer}/ may not include the public header {name}")
            elif quoted:
                self.report(path, number, f'"{name}" is neither in a folder of src (write "FOLDER/FILE") nor public')

    def check_public(self, path):
        for number, quoted, name in includes(path):
            folder = name.split("/")[0] if "/" in name else None
            if folder in self.ladder or (quoted and folder != "tidal"):
                self.report(path, number, f"a public header may not include {name}")

    def check_outside(self, path):
        for number, quoted, name in includes(path):
            places = [self.root / "src", self.root / "include", self.root, path.parent]
            if quoted and not any((place / name).exists() for place in places):
                self.report(path, number, f"{name} does not exist in src, include or beside the file")

    def check_links(self, layer):
        """What tidal_library(LAYER DEPS ...) links has to be above the layer as well."""
        path = self.root / "src" / layer / "CMakeLists.txt"
        text = path.read_text(encoding="utf-8")
        match = re.search(rf"tidal_library\({layer}\b([^)]*)\)", text)
        dependencies = match.group(1).split("TEST_DEPS")[0] if match else ""
        for dependency in re.findall(r"\btidal_(\w+)", dependencies):
            if dependency not in self.ladder[: self.ladder.index(layer)]:
                self.report(path, 1, f"{layer} may not link tidal_{dependency}, which is not above it")

    def run(self):
        if FIRST_PUBLIC_USER not in self.ladder:
            self.problems.append(f"CMakeLists.txt: no add_subdirectory(src/{FIRST_PUBLIC_USER})")
            return
        for folder in sorted((self.root / "src").iterdir()):
            if not folder.is_dir():
                continue
            if folder.name not in self.ladder:
                self.problems.append(f"src/{folder.name}: no add_subdirectory in CMakeLists.txt, so it has no layer")
                continue
            self.check_links(folder.name)
            for path in sources(folder):
                self.check_layer(folder.name, path)
        for path in sources(self.root / "include"):
            self.check_public(path)
        for folder in ("tests", "bench"):
            for path in sources(self.root / folder):
                self.check_outside(path)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    checker = Checker(root)
    checker.run()
    for problem in checker.problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if checker.problems else 0)


if __name__ == "__main__":
    main()
