#!/usr/bin/env bash
# Installs what is missing, builds, fetches SmolLM2-135M-Instruct and asks it about a long document twice: with every layer
# reading the whole document for every token, and with layers that read the thousand tokens they choose.
# usage: scripts/demo.sh [OPTION OF tidal generate...]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

document=$root/tests/data/documents/skerrow.txt
question="Answer this question about the text: What was the name of the mail steamer?"

"$root/scripts/install_deps.sh"
build_preset release tidal
"$root/scripts/fetch_models.sh" "$models_dir" smollm2

stats=$(mktemp)
trap 'rm -f "$stats"' EXIT

echo
echo "Document: ${document#"$root/"}, $(wc -w <"$document") words"
echo "Question: $question"
for plan in full tidal; do
  echo
  echo "--attention $plan"
  echo "answer    $("$root/build/tidal" generate -m "$models_dir/smollm2-135m.gguf" -f "$document" -p "$question" \
    --chat -n 64 --temp 0 --stats --attention "$plan" "$@" 2>"$stats" || { cat "$stats" >&2; exit 1; })"
  grep -E '^(prompt|decode|attended|mass)' "$stats"
done
