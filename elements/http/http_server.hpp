// The server's thread: listens, keeps the connections' time, and runs what other threads hand over.
//
// Connections are accepted here and not by SoupServer, whose listener ends for good when accept () fails once, and
// which has no limits of its own; it gets each connection with soup_server_accept_iostream ().
//
// Everything runs in the server's thread with its own GMainContext, except start (), stop (), tasks () and port (),
// which may be called from anywhere.
#pragma once

#include "elements/http/server_tasks.hpp"
#include "library/ref.hpp"

#include <libsoup/soup.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

namespace millrace
{

class HttpExchange;

struct HttpServerSettings {
  std::string address = "127.0.0.1";        ///< an IP address
  int port = 8080;                          ///< 0: any free one
  std::string tls_certificate{}, tls_key{}; ///< PEM files; empty: no TLS
  int max_connections = 1024;
  size_t max_body_bytes = size_t{16} << 20;
  int header_timeout_ms = 15000; ///< for the request line and the headers
  int body_timeout_ms = 60000;   ///< for the body after them
  int idle_timeout_ms = 60000;   ///< between two requests of a connection
};

/// What answers requests. Called in the server's thread.
class HttpHandler
{
public:
  virtual ~HttpHandler () = default;
  /// The headers are there, the body is not: a handler that answers now never sees the body.
  virtual void got_headers (HttpExchange &exchange) = 0;
  virtual void got_request (const std::shared_ptr<HttpExchange> &exchange) = 0;
  /// Several times a second.
  virtual void tick (int64_t now_us) = 0;
  /// Whether some answer is not written yet.
  virtual bool busy () = 0;
};

class HttpServer
{
public:
  HttpServer (const HttpServerSettings &settings, HttpHandler &handler);
  ~HttpServer ();

  /// Listens. Throws LoadError, naming the address or the file.
  void start ();
  /// Waits a moment for answers to be written, ends the connections and joins the thread.
  void stop ();
  /// Closes the listening socket; connections go on. Server's thread.
  void stop_listening ();
  const std::shared_ptr<ServerTasks> &tasks () const { return tasks_; }

  int port () const { return port_; }
  const HttpServerSettings &settings () const { return settings_; }
  int connections () const { return connection_count_; }

  struct Connection; ///< one client's socket
  /// Writes a whole answer past SoupServer, which cannot at this point, and sends nothing more. What the client still
  /// sends is read and dropped for a while, so that it gets to see the answer. Server's thread.
  void refuse (Connection &connection, const std::string &answer);
  /// Holds back what is written to the connection until the main loop has gone round: libsoup writes a chunk in three
  /// pieces, each of which would be a packet and wake the client. Server's thread.
  void cork (Connection &connection);

private:
  void run ();
  void listen ();
  void watch_listener ();
  void pause_listening ();
  void accept_all ();
  void accept (Ref<GSocket> socket);
  void hand_over (Connection &connection);
  void run_tasks ();
  void begin_end ();
  void uncork_all ();
  void tick ();
  static void on_request_started (SoupServer *server, SoupServerMessage *message, gpointer self);
  static void on_connection_gone (gpointer data, GObject *stream);
  void close_idle (Connection &connection);
  void close_ended ();

  HttpServerSettings settings_;
  HttpHandler &handler_;
  GMainContext *context_ = nullptr;
  GMainLoop *loop_ = nullptr;
  SoupServer *soup_ = nullptr;
  Ref<GSocket> listener_;
  GSource *accept_source_ = nullptr, *tick_source_ = nullptr, *task_source_ = nullptr, *end_source_ = nullptr,
          *ended_source_ = nullptr, *uncork_source_ = nullptr;
  int uncork_rounds_ = 0;
  std::vector<Ref<GSocket>> corked_;
  int64_t end_us_ = 0; ///< when stop () waits no longer
  Ref<GTlsCertificate> certificate_;
  std::thread thread_;
  std::atomic<int> port_{0}, connection_count_{0};
  std::unordered_map<GObject *, std::unique_ptr<Connection>> connections_; // by their stream
  const std::shared_ptr<ServerTasks> tasks_ = std::make_shared<ServerTasks> ();
};

struct HttpServer::Connection {
  ~Connection ();

  HttpServer *server = nullptr;
  Ref<GSocket> socket;
  Ref<GIOStream> waiting_stream; ///< while the TLS handshake is under way
  GIOStream *stream = nullptr;   ///< SoupServer owns it; a weak reference tells when it is gone
  Ref<GSocketAddress> local, remote;
  std::string client;      ///< the remote address as text
  int64_t deadline_us = 0; ///< 0: none
  enum class Phase { kHandshake, kIdle, kHeaders, kBody, kAnswer, kRefused } phase = Phase::kHeaders;
  /// The last message that has been answered: the way to take an idle connection away from SoupServer.
  SoupServerMessage *last_message = nullptr;
  bool ended = false; ///< the client is gone, noticed while it was idle

  void remember (SoupServerMessage *message);
  void enter (Phase next);
};

} // namespace millrace
