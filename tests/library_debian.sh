#!/bin/bash
# labels: soak
# timeout: 3600
# In a bare Debian 12: what `cmake --install` puts there, and packages of Debian's, are enough to build and run every example.
# Needs root, debootstrap and the mirror that apt uses.
set -euo pipefail

skip ()
{
  echo "SKIP: $*"
  exit 77
}

[ -z "${MILLRACE_SANITIZE:-}" ] || skip "introspection is not built with sanitizers"
[ "$(id -u)" = 0 ] || skip "only root can make a root of Debian"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"
mirror=$(apt-cache policy | awk '$1 ~ /^[0-9]+$/ && $3 ~ /^bookworm\/main$/ {print $2; exit}')
[ -n "$mirror" ] || skip "apt knows no mirror of Debian 12"
proxy=$(apt-config shell proxy Acquire::http::Proxy)
eval "$proxy"
[ -z "${proxy:-}" ] || export http_proxy=$proxy

# Libraries that the installed files are linked with, and one binding for each language.
runtime=(gstreamer1.0-tools gstreamer1.0-plugins-base libsoup-3.0-0 libsimdjson14 libicu72 libpcre2-8-0 libxxhash0
  libprometheus-cpp-core1.0 gir1.2-gstreamer-1.0 python3-gi gjs ruby-gobject-introspection lua5.1 lua-lgi)
build=(gcc libc6-dev pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev valac)

folder=$(mktemp -d)
root=$folder/root
cleanup ()
{
  for place in proc dev; do
    mountpoint -q "$root/$place" && umount "$root/$place"
  done
  rm -rf --one-file-system "$folder"
}
trap cleanup EXIT

inside ()
{
  chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    GST_PLUGIN_PATH=/usr/lib/gstreamer-1.0 ${http_proxy:+http_proxy="$http_proxy"} "$@"
}

debootstrap --variant=minbase bookworm "$root" "$mirror" >"$folder/log" 2>&1 || {
  tail -5 "$folder/log"
  skip "debootstrap cannot fetch Debian from apt's mirror"
}
mount --bind /dev "$root/dev" 2>/dev/null || skip "no right to mount"
mount -t proc proc "$root/proc" 2>/dev/null || skip "no right to mount"
cp /etc/resolv.conf "$root/etc/resolv.conf"
inside apt-get install -qq -y --no-install-recommends "${runtime[@]}" >"$folder/log" 2>&1 || { tail -20 "$folder/log"; exit 1; }

DESTDIR=$root cmake --install "$MILLRACE_BUILD" --prefix /usr >"$folder/log"
inside ldconfig
mkdir -p "$root/work/pipelines" "$root/work/tests" "$root/work/bin"
cp -r pipelines/examples "$root/work/pipelines/"
cp tests/library_examples.sh "$root/work/tests/"

echo "--- with packages for running only"
inside millrace run --model demo-draft --max-tokens 8 "import os" | grep -q .
for example in generate.py generate_async.py generate.js generate.rb generate.lua; do
  text=$(inside "/work/pipelines/examples/$example" "import os" demo-draft)
  [ -n "$text" ] || { echo "$example printed nothing"; exit 1; }
done

echo "--- built there"
inside apt-get install -qq -y --no-install-recommends "${build[@]}" >"$folder/log" 2>&1 || { tail -20 "$folder/log"; exit 1; }
inside bash -euc '
  cd /work/pipelines/examples
  compile () { cc -Wall -Wextra -Werror -std=c11 "$1.c" $(pkg-config --cflags --libs "${@:2}") -o "/work/bin/example-$1"; }
  compile complete gstreamer-1.0
  compile application millrace-1.0
  compile chat millrace-1.0 gio-unix-2.0
  compile appsrc millrace-1.0 gstreamer-app-1.0
  valac --quiet --pkg millrace-1.0 generate.vala -o /work/bin/example-vala
  [ "$(/work/bin/example-complete "import os" | wc -c)" -gt 10 ]
'
inside bash -c 'cd /work && MILLRACE_EXAMPLES_BIN=/work/bin tests/library_examples.sh'

# Nothing but the root's own files was used.
if inside bash -c 'ldd /usr/lib/libmillrace-1.0.so.0 /usr/lib/gstreamer-1.0/*.so /usr/bin/millrace' | grep "not found"; then
  exit 1
fi
echo "every example runs in a bare Debian 12"
