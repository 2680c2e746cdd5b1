#!/usr/bin/env bash
# Cross-compiles the engine and what is below it for 64-bit ARM and runs their tests under qemu-user, with the portable
# kernels and SmolLM2. The compiler and the emulator are packages of this machine; the libraries' arm64 packages are
# unpacked into build-aarch64/sysroot, so nothing of another architecture is installed.
# usage: scripts/test_aarch64.sh [RESULTS]     (RESULTS: a folder for the tests' reports)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case ${1:-} in -h | --help) sed -n '2,5s/^# //p' "$0"; exit 0 ;; esac
build=$root/build-aarch64
results=${1:-$build/results}
sysroot=$build/sysroot
libraries=(libfmt-dev libfmt9 libspdlog-dev libspdlog1.10 nlohmann-json3-dev libcli11-dev libpcre2-dev libpcre2-8-0
  libedit-dev libedit2 libbsd-dev libbsd0 libmd-dev libmd0 libncurses-dev libtinfo6 libgtest-dev libgmock-dev)
tests=(tidal_base_test tidal_gguf_test tidal_quant_test tidal_hf_test tidal_tokenizer_test tidal_attention_test tidal_kv_test
  tidal_cpu_test tidal_engine_test tidal_end_to_end_test)

# What cannot run under the emulator, and what would take it long:
left_out=(
  '*DeathTest*'  # these start their own program again, which this machine cannot without the emulator in front
  '*/avx*' '*Avx2And*'  # no such processor
  'Models/LargeOracleTest.*' 'Models/GreedyTextTest.*' 'PlanOracle.*' 'SmolLm2FolderTest.*' 'Types/RandomModelTest.*_qwen*_Q*'
  # Plans by the thousand rows. The schedule's, the presets' and the kernels' own tests stay.
  'PlanEngine.*' 'ShortPlanEngine.*Correct*' 'ShortPlanEngine.TheGuard*' 'PlanChunks.*' '*/PlanBatch.*' '*/PlanBytes.*'
  '*/PlanFast.*' 'Shapes/*'
  # Long texts, and that threads, chunks and pages change no bit: that code is the same for every processor.
  '*/LongTextTest.*' 'LongWordTest.*' 'LongSpecialTextTest.*' 'PreTokenizerTest.AWordMayBeAsLongAsTheText'
  '*/AttentionTest.AnyNumberOfThreads*' '*/AttentionTest.ChunksOfAnySize*' '*/MatMulTest.JobsAndThreads*'
  '*/EngineTest.TheNumberOfThreads*' '*/EngineTest.ChunksOfAnySize*' '*/EngineTest.ShuffledPages*' 'Allocation.*'
)
oracle_tokens=12  # of each prompt of the stored log-probabilities; a row of SmolLM2 takes a second

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
mkdir -p "$results"
echo "SKIPPED for 64-bit ARM, which is emulated here: ${left_out[*]}; of each oracle's prompts all but $oracle_tokens tokens"
# ctest puts the emulator of cmake/aarch64-linux-gnu.cmake in front of each program, which hands the environment on.
GTEST_OUTPUT="xml:$results/" GTEST_COLOR=no GTEST_FILTER="-$(IFS=: && echo "${left_out[*]}")" \
  TIDAL_MODELS_DIR=$models_dir TIDAL_ORACLE_TOKENS=$oracle_tokens \
  ctest --test-dir "$build" --parallel "$(cores)" --tests-regex "^($(IFS='|' && echo "${tests[*]}"))\$" --output-on-failure \
  --no-tests=error --output-junit "$results/ctest.xml" </dev/null
