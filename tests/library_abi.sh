#!/bin/bash
# labels: library
# The library exports what library/millrace-1.0.symbols lists, with the signatures of library/millrace-1.0.abi; every
# function of the public headers is in the list; nothing else is public; its reference has no gaps.
set -euo pipefail

[ -z "${MILLRACE_SANITIZE:-}" ] || { echo "SKIP: introspection is not built with sanitizers"; exit 77; }
library=$MILLRACE_BUILD/lib/libmillrace-1.0.so
[ "$(objdump -p "$library" | awk '/SONAME/ {print $2}')" = libmillrace-1.0.so.0 ] || { echo "another SONAME"; exit 1; }

scripts/library-abi --check

# Declarations: a name before a parenthesis at the beginning of a line, or after its type.
declared=$(sed -e '/^#/d' -e '/^ \*/d' library/millrace/*.h | grep -oE '\bmillrace_[a-z0-9_]+ \(' | sed 's/ (//' | sort -u)
for name in $declared; do
  grep -qx "$name" library/millrace-1.0.symbols || { echo "$name is declared but not exported"; exit 1; }
done

# Each symbol is public, or private to what is installed with the library; none is left over.
other=$(nm -D --defined-only --with-symbol-versions "$library" | awk '{print $NF}' |
  grep -vE '@@MILLRACE_(1\.0|PRIVATE)$' | grep -vE '^MILLRACE_(1\.0|PRIVATE)(@|$)' || true)
[ -z "$other" ] || { echo "exported without a version: $other"; exit 1; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
gi-docgen generate --quiet --no-namespace-dir --fatal-warnings --config=library/Millrace.toml --content-dir=library \
  --output-dir="$folder" "$MILLRACE_BUILD/library/Millrace-1.0.gir"
for class in Generator Model Request Stream; do
  [ -s "$folder/class.$class.html" ] || { echo "the reference has no Millrace.$class"; exit 1; }
done
echo "$(wc -l <library/millrace-1.0.symbols) symbols, $(wc -l <library/millrace-1.0.abi) lines of ABI"
