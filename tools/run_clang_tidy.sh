#!/usr/bin/env bash
# Runs clang-tidy 14 with .clang-tidy over sources of ours; warnings are errors.
# usage: tools/run_clang_tidy.sh [-p BUILD_DIR] [PATH...]
#   PATH       files, or folders for every *.cc in them (default: src bench, without tests)
#   BUILD_DIR  a configured build folder (default: build), for its compile_commands.json
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

build=$top/build
tests=()
case ${1:-} in
  -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
  -p) build=$(realpath "${2:?-p needs a folder}"); shift 2 ;;
esac
tidy=$(command -v clang-tidy-14 || command -v clang-tidy || true)
if [ -z "$tidy" ] || ! "$tidy" --version | grep -q 'version 14\.'; then
  echo "run_clang_tidy.sh: clang-tidy 14 is not there (Debian package clang-tidy)" >&2
  exit 1
fi
if [ ! -f "$build/compile_commands.json" ]; then
  echo "run_clang_tidy.sh: no $build/compile_commands.json: configure a build first (scripts/build.sh)" >&2
  exit 1
fi
if [ $# -eq 0 ]; then
  tests=(-not -name '*_test.cc')
  set -- "$top/src" "$top/bench"
fi
find "$@" -name '*.cc' "${tests[@]}" -print0 |
  xargs -0 -r -n 1 -P "$(nproc)" "$tidy" -p "$build" --quiet --extra-arg=-Wno-unknown-warning-option \
    2> >(grep -Ev 'warnings( and [0-9]+ errors?)? generated' >&2)
