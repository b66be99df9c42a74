// What the commands of `millrace` share: writing pipeline strings and running them.
#pragma once

#include <gst/gst.h>

#include <functional>
#include <string>

namespace millrace
{

/// In the syntax of gst_parse_launch (): a value in double quotes, quotes and backslashes escaped.
std::string quoted_value (const char *value);
std::string number_value (double value);

/// Installed outside GStreamer's own prefix the plug-ins are not on its path; the program knows where they are. Says so
/// and returns false when `feature` is not there at all.
bool ensure_plugin (const char *feature);

/// How a pipeline is run.
struct PlayOptions {
  bool stats = false;             ///< print each request's tokens and times
  bool fail_with_request = false; ///< exit with an error when a request has failed
  int drain_timeout_s = -1;       ///< the first signal sends EOS and waits so long; -1: it stops at once
  std::function<void (GstElement *pipeline)> on_playing{};
};

/// Runs a pipeline to its EOS, an error or a signal; the exit status of the program.
int play (const std::string &text, const PlayOptions &options);

} // namespace millrace
