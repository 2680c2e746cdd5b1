#!/usr/bin/env bash
# Fails on what must not be in the repository: paths of one machine, host names of package registries, unfinished work.
# usage: tools/check_words.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# In pieces, so that the patterns do not find themselves.
paths='(^|[^[:alnum:]_.$})-])/(wor''k|roo''t|far''m)(/|[^[:alnum:]_/-]|$)'
hosts='py''pi\.(org|python)|python''hosted|deb\.deb''ian|(registry\.)?npm''js\.|crates\.i''o|hugging''face\.co/'
unfinished='\b(TO''DO|FIX''ME|XX''X|HA''CK)\b'

status=0
check() {  # check WHAT PATTERN [PATHSPEC...]
  local found
  found=$(git grep -nIE --untracked "$2" -- "${@:3}" || true)
  if [ -n "$found" ]; then
    echo "$1:" >&2
    printf '%s\n' "$found" | cut -c1-200 >&2
    status=1
  fi
}
# Other people's texts, kept as they are: test vectors and the documents of evaluations.
texts=(':!tests/data' ':!data/eval/calibration' ':!data/eval/test' ':!data/eval/licences')
check "a path of one machine" "$paths" . "${texts[@]}"
check "a host name of a package registry" "$hosts" . "${texts[@]}"
check "unfinished work" "$unfinished" . "${texts[@]}" ':!LICENSE'
exit $status
