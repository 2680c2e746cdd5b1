#!/usr/bin/env bash
# Cross-compiles the lower folders for 64-bit ARM and runs their tests under qemu-user. The compiler and the emulator are
# packages of this machine; the libraries' arm64 packages are unpacked into build-aarch64/sysroot, so nothing of another
# architecture is installed.
# usage: scripts/test_aarch64.sh [RESULTS]     (RESULTS: a folder for GoogleTest's reports)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;; esac
results=${1:-}
build=$root/build-aarch64
sysroot=$build/sysroot
libraries=(libfmt-dev libfmt9 libspdlog-dev libspdlog1.10 nlohmann-json3-dev libcli11-dev libpcre2-dev libpcre2-8-0
  libedit-dev libedit2 libbsd-dev libbsd0 libmd-dev libmd0 libncurses-dev libtinfo6 libgtest-dev libgmock-dev)
tests=(tidal_base_test tidal_gguf_test tidal_quant_test tidal_hf_test)

# apt with a state of its own, which knows arm64 only: neither root nor a change to this machine's packages is needed.
fetch_libraries() {
  local state=$build/apt
  mkdir -p "$state/lists/partial" "$state/archives/partial" "$sysroot"
  touch "$state/status"
  cat >"$state/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State "$state";
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache "$state";
APT::Sandbox::User "$(id -un)";
CONF
  export APT_CONFIG=$state/apt.conf
  (cd "$state/archives" && apt-get update && apt-get download "${libraries[@]}") >"$state/log" 2>&1 ||
    { tail -n 5 "$state/log" >&2 && die "apt-get could not fetch the arm64 packages"; }
  unset APT_CONFIG
  for package in "$state"/archives/*.deb; do dpkg -x "$package" "$sysroot"; done
  touch "$sysroot/complete"
}

"$root/scripts/install_deps.sh" --aarch64
[ -e "$sysroot/complete" ] || fetch_libraries
build_preset aarch64 "${tests[@]}"
# A death test starts its own program again, which this machine cannot without the emulator in front.
filter='-*DeathTest*'
status=0
for test in "${tests[@]}"; do
  start=$SECONDS
  program=$(find "$build/src" "$build/tests" -type f -name "$test")
  report=()
  if [ -n "$results" ]; then report=("--gtest_output=xml:$results/$test.xml"); fi
  echo "-- $test"
  TIDAL_MODELS_DIR=$models_dir qemu-aarch64-static -L /usr/aarch64-linux-gnu \
    -E "LD_LIBRARY_PATH=$sysroot/usr/lib/aarch64-linux-gnu:$sysroot/lib/aarch64-linux-gnu" \
    "$program" --gtest_brief=1 "--gtest_filter=$filter" "${report[@]}" </dev/null || status=1
  echo "-- $test took $((SECONDS - start)) s"
done
exit $status
