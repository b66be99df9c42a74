#!/bin/bash
# FOLDER: in front of tests with AddressSanitizer, what GStreamer knows of plug-ins, ours with it, for each FOLDER/*.registry.
# A test that had to load libgstmillracehttp only to look into it would have libraries loaded in which LeakSanitizer crashes.
set -euo pipefail
GST_REGISTRY_1_0=$1/system.registry gst-inspect-1.0 llmbin >"$1/registries.log" 2>&1
for registry in "$1"/*.registry; do
  [ "$registry" = "$1/system.registry" ] || cp "$1/system.registry" "$registry"
done
