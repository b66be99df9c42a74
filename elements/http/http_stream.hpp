// A connection's stream as SoupServer sees it: the client's own, except that between two requests it never ends.
//
// libsoup 3.2 keeps a connection for ever when its client closes it between two requests. So SoupServer does not get to
// see that end; whoever made the stream is told, and takes the connection away from SoupServer.
#pragma once

#include <gio/gio.h>

namespace millrace
{

struct HttpStreamWatcher {
  /// Whether the connection is between two requests.
  bool (*is_idle) (gpointer data);
  /// Reading has ended while it was. Called again and again until the stream is gone.
  void (*on_end) (gpointer data);
  gpointer data;
};

/// Transfer full. Keeps `base`, whose input and output can be polled. `watcher.data` must live as long as the stream.
/// The thread that reads.
GIOStream *http_stream_new (GIOStream *base, const HttpStreamWatcher &watcher);

} // namespace millrace
