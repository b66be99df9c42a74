#!/bin/bash
# labels: pipeline
# timeout: 200
# scripts/demo streams a completion and prints pipeline and speed. Needs the release build that it uses.
set -euo pipefail

if [ "$MILLRACE_BUILD" != "$PWD/build/release" ]; then
  echo "SKIPPED: scripts/demo runs the release build, this is $MILLRACE_BUILD"
  exit 0
fi
file=$(mktemp)
trap 'rm -f "$file"' EXIT
MAX_TOKENS=24 scripts/demo "import os" >"$file" # a file: fdsink alone would overwrite what came before the text
output=$(<"$file")
grep -q '^import os' <<<"$output"
grep -q '^gst-launch-1.0 -q fdsrc ! llmprompt' <<<"$output"
grep -qE '^24 tokens, [1-9][0-9]* tokens/s' <<<"$output"
echo "$output" | tail -n 1
