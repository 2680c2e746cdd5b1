#!/usr/bin/env python3
"""Sums up test reports: the skipped tests with their reasons, the failed ones, and 'N passed, N failed, N skipped'.

usage: count_tests.py DIR

DIR has a folder for each build that was tested, and in it ctest.xml (JUnit, one entry per program) and, for a program
that uses GoogleTest, PROGRAM.xml (one entry per test).
"""

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def count_program(report):
    """The outcome of each test in one GoogleTest report: (name, outcome, reason)."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None:
            yield name, "failed", ""
        elif skipped is not None:
            yield name, "skipped", (skipped.get("message") or "").strip().splitlines()[-1:]
        elif case.get("status") == "run":
            yield name, "passed", ""


def count_build(folder):
    for case in ElementTree.parse(folder / "ctest.xml").getroot().iter("testcase"):
        program, status = case.get("name"), case.get("status")
        report = folder / f"{program}.xml"
        if not report.exists():
            yield program, {"run": "passed", "fail": "failed"}.get(status, "skipped"), ""
            continue
        failures = 0
        for name, outcome, reason in count_program(report):
            failures += outcome == "failed"
            yield f"{program} {name}", outcome, reason
        if status == "fail" and failures == 0:  # a sanitizer's report, a time-out, a crash at exit
            yield program, "failed", ""


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for ctest_report in sorted(pathlib.Path(sys.argv[1]).glob("*/ctest.xml")):
        build = ctest_report.parent.name
        for name, outcome, reason in count_build(ctest_report.parent):
            counts[outcome] += 1
            if outcome != "passed":
                print(f"{outcome}: {build}: {name}" + (f": {' '.join(reason)}" if reason else ""))
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))


if __name__ == "__main__":
    main()
