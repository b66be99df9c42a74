#!/bin/bash
# labels: pipeline
# timeout: 300
# What `cmake --install` puts into a prefix is enough to build and run: program, plug-in, library, headers, models.
set -euo pipefail

prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$MILLRACE_BUILD" --prefix "$prefix" >"$prefix/log"

libdir=$(dirname "$(find "$prefix" -name 'libmillrace-1.0.so')")
export PKG_CONFIG_PATH=$libdir/pkgconfig GST_REGISTRY_1_0=$prefix/registry
unset MILLRACE_MODEL_PATH LD_LIBRARY_PATH GST_PLUGIN_PATH_1_0

"$prefix/bin/millrace" version
text=$("$prefix/bin/millrace" run -n 8 "import os")
[ -n "$text" ] || { echo "the installed program printed nothing"; exit 1; }

# The program finds the plug-in beside the library; for others it is named.
export GST_PLUGIN_PATH_1_0=$libdir/gstreamer-1.0

# The headers are C, and the example builds with pkg-config alone.
cat >"$prefix/use.c" <<'C'
#include <millrace/millrace.h>
#include <stdio.h>
int
main (int argc, char **argv)
{
  gst_init (&argc, &argv);
  GError *error = NULL;
  MillraceModel *model = millrace_model_open ("demo-draft", MILLRACE_WEIGHTS_AUTO, 1, &error);
  if (!model) {
    fprintf (stderr, "%s\n", error->message);
    return 1;
  }
  char *text = millrace_model_describe (model);
  puts (text);
  g_free (text);
  g_object_unref (model);
  return 0;
}
C
if [ -z "${MILLRACE_SANITIZE:-}" ]; then
  # shellcheck disable=SC2046
  cc -Wall -Wextra -Werror -std=c11 "$prefix/use.c" $(pkg-config --cflags --libs millrace-1.0) \
    -Wl,-rpath,"$libdir" -o "$prefix/use"
  "$prefix/use" | grep -q qwen3
  # shellcheck disable=SC2046
  cc -Wall -Wextra -Werror pipelines/examples/complete.c $(pkg-config --cflags --libs gstreamer-1.0) -o "$prefix/complete"
  [ "$("$prefix/complete" "import os" | wc -c)" -gt 10 ]
fi
echo "installed files work"
