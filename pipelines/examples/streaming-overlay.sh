#!/bin/bash
# streaming-overlay.sh PROMPT FRAMES: a video on which a model's answer appears word by word, as pictures in a folder.
#
# The prompt is a subtitle of four seconds; its answer grows over that time (format=growing, timing=spread).
set -euo pipefail

mkdir -p "$2"
printf '1\n00:00:00,000 --> 00:00:04,000\n%s\n' "$1" >"$2/prompt.srt"
gst-launch-1.0 -q \
  filesrc location="$2/prompt.srt" ! subparse \
  ! llmbin prompt::max-tokens=16 detokenizer::format=growing detokenizer::timing=spread ! queue ! overlay.text_sink \
  videotestsrc pattern=black num-buffers=16 ! video/x-raw,width=480,height=270,framerate=4/1 \
  ! textoverlay name=overlay font-desc="Monospace 20" halignment=left valignment=top line-alignment=left \
  ! videoconvert ! pngenc ! multifilesink location="$2/%03d.png"
