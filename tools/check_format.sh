#!/usr/bin/env bash
# Fails if clang-format 14 would change a C++ file of src, tests or bench.
# usage: tools/check_format.sh [--fix]     (--fix: change them)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=(--dry-run --Werror)
case ${1:-} in
  '') ;;
  --fix) mode=(-i) ;;
  *) echo "usage: tools/check_format.sh [--fix]" >&2; exit 2 ;;
esac
# Another version formats some lines differently.
version=14
format=$(command -v "clang-format-$version" || command -v clang-format || true)
if [ -z "$format" ] || ! "$format" --version | grep -q "version $version\."; then
  echo "check_format.sh: clang-format $version is not there (Debian package clang-format)" >&2
  exit 1
fi
find src tests bench \( -name '*.cc' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 -r "$format" "${mode[@]}"
