#include "elements/http/http_server.hpp"

#include "elements/http/http_exchange.hpp"
#include "elements/http/http_stream.hpp"
#include "elements/http/thread_latency.hpp"

#include "engine/clock.hpp"
#include "engine/error.hpp"

#include <gio/gnetworking.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace millrace
{

namespace
{

constexpr int kTickMs = 200;
constexpr int64_t kGraceMs = 1000;  ///< for what has been answered to be written, when the server stops
constexpr int kAcceptPauseMs = 100; ///< after accept () failed for want of file descriptors
constexpr int kSendBufferBytes = 128 << 10; ///< so that a slow reader is noticed soon
constexpr int kLingerMs = 2000;             ///< for a client to see that it was refused
constexpr int kUncorkRounds =
    3; ///< of the main loop: until libsoup has unpaused, found that it may write, and written
constexpr const char *kConnectionKey = "millrace-connection";

GSource *
attach (GSource *source, GMainContext *context, GSourceFunc callback, gpointer data)
{
  g_source_set_callback (source, callback, data, nullptr);
  g_source_attach (source, context);
  return source;
}

void
destroy (GSource *&source)
{
  if (!source)
    return;
  g_source_destroy (source);
  g_source_unref (source);
  source = nullptr;
}

std::string
take_message (GError *error)
{
  std::string text = error ? error->message : "unknown error";
  g_clear_error (&error);
  return text;
}

std::string
raw_answer (int status, const char *code, const char *message)
{
  const std::string body =
      error_body (Dialect::kChat, {.status = status,
                                   .type = status == 408 ? "timeout_error" : "server_error",
                                   .code = code,
                                   .message = message});
  return "HTTP/1.1 " + std::to_string (status) + " " + soup_status_get_phrase (static_cast<guint> (status)) +
         "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
         std::to_string (body.size ()) + "\r\n\r\n" + body;
}

gboolean
dispatch_once (GSource *source, GSourceFunc callback, gpointer data)
{
  g_source_set_ready_time (source, -1);
  return callback (data);
}

GSourceFuncs ready_source_functions = {nullptr, nullptr, dispatch_once, nullptr, nullptr, nullptr};

} // namespace

void
HttpServer::Connection::enter (Phase next)
{
  const auto &settings = server->settings_;
  phase = next;
  const int timeout_ms = next == Phase::kIdle      ? settings.idle_timeout_ms
                         : next == Phase::kBody    ? settings.body_timeout_ms
                         : next == Phase::kRefused ? kLingerMs
                         : next == Phase::kAnswer  ? 0
                                                   : settings.header_timeout_ms;
  deadline_us = timeout_ms > 0 ? steady_now_us () + int64_t{timeout_ms} * 1000 : 0;
}

void
HttpServer::Connection::remember (SoupServerMessage *message)
{
  if (message) {
    g_object_ref (message);
    soup_message_body_truncate (soup_server_message_get_response_body (message));
  }
  g_clear_object (&last_message);
  last_message = message;
}

HttpServer::Connection::~Connection ()
{
  g_clear_object (&last_message);
}

HttpServer::HttpServer (const HttpServerSettings &settings, HttpHandler &handler)
    : settings_ (settings)
    , handler_ (handler)
{
}

HttpServer::~HttpServer ()
{
  stop ();
}

// --- life ---------------------------------------------------------------------------------------

void
HttpServer::listen ()
{
  const std::string where = settings_.address + ":" + std::to_string (settings_.port);
  const auto address =
      Ref<GSocketAddress>::adopt (g_inet_socket_address_new_from_string (settings_.address.c_str (), 0));
  if (!address)
    throw LoadError (where, "address",
                     "is not an IP address; 127.0.0.1 is this machine alone, 0.0.0.0 all networks");
  const auto with_port = Ref<GSocketAddress>::adopt (g_inet_socket_address_new_from_string (
      settings_.address.c_str (), static_cast<guint> (settings_.port)));

  GError *error = nullptr;
  auto socket = Ref<GSocket>::adopt (g_socket_new (g_socket_address_get_family (address.get ()),
                                                   G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, &error));
  if (!socket || !g_socket_bind (socket.get (), with_port.get (), TRUE, &error))
    throw LoadError (where, "",
                     "cannot listen: " + take_message (error) + "; choose another port or address");
  g_socket_set_listen_backlog (socket.get (), 1024);
  g_socket_set_blocking (socket.get (), FALSE);
  if (!g_socket_listen (socket.get (), &error))
    throw LoadError (where, "", "cannot listen: " + take_message (error));
  const auto bound = Ref<GSocketAddress>::adopt (g_socket_get_local_address (socket.get (), nullptr));
  port_ = bound ? g_inet_socket_address_get_port (G_INET_SOCKET_ADDRESS (bound.get ())) : settings_.port;
  listener_ = std::move (socket);
}

void
HttpServer::start ()
{
  if (!settings_.tls_certificate.empty ()) {
    GError *error = nullptr;
    const std::string &key = settings_.tls_key.empty () ? settings_.tls_certificate : settings_.tls_key;
    certificate_ = Ref<GTlsCertificate>::adopt (
        g_tls_certificate_new_from_files (settings_.tls_certificate.c_str (), key.c_str (), &error));
    if (!certificate_)
      throw LoadError (settings_.tls_certificate, "tls-certificate", take_message (error));
  }
  listen ();
  context_ = g_main_context_new ();
  loop_ = g_main_loop_new (context_, FALSE);
  tasks_->open ();
  task_source_ = g_unix_fd_source_new (tasks_->event_, G_IO_IN);
  g_source_set_callback (task_source_, G_SOURCE_FUNC (+[] (gint, GIOCondition, gpointer self) -> gboolean {
                           static_cast<HttpServer *> (self)->run_tasks ();
                           return G_SOURCE_CONTINUE;
                         }),
                         this, nullptr);
  g_source_attach (task_source_, context_);
  ended_source_ = g_source_new (&ready_source_functions, sizeof (GSource));
  attach (
      ended_source_, context_,
      [] (gpointer self) -> gboolean {
        static_cast<HttpServer *> (self)->close_ended ();
        return G_SOURCE_CONTINUE;
      },
      this);
  uncork_source_ = g_source_new (&ready_source_functions, sizeof (GSource));
  attach (
      uncork_source_, context_,
      [] (gpointer self) -> gboolean {
        static_cast<HttpServer *> (self)->uncork_all ();
        return G_SOURCE_CONTINUE;
      },
      this);
  thread_ = std::thread ([this] { run (); });
}

void
HttpServer::run ()
{
  prefer_latency ();
  g_main_context_push_thread_default (context_);
  soup_ = soup_server_new ("server-header", "millrace", nullptr);
  // SoupServer keeps connections alive only while it listens somewhere itself: on a socket nobody can reach.
  GError *error = nullptr;
  const auto unreachable = Ref<GSocket>::adopt (
      g_socket_new (G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT, &error));
  if (unreachable) {
    const auto any = Ref<GSocketAddress>::adopt (
        g_unix_socket_address_new_with_type ("", 0, G_UNIX_SOCKET_ADDRESS_ANONYMOUS));
    g_socket_set_blocking (unreachable.get (), FALSE);
    if (g_socket_bind (unreachable.get (), any.get (), FALSE, nullptr) &&
        g_socket_listen (unreachable.get (), nullptr))
      soup_server_listen_socket (soup_, unreachable.get (), static_cast<SoupServerListenOptions> (0),
                                 nullptr);
  }
  g_clear_error (&error);
  soup_server_add_handler (
      soup_, nullptr,
      [] (SoupServer *, SoupServerMessage *message, const char *, GHashTable *, gpointer self) {
        if (auto *exchange = HttpExchange::of (message))
          static_cast<HttpServer *> (self)->handler_.got_request (exchange->shared_from_this ());
      },
      this, nullptr);
  g_signal_connect (soup_, "request-started", G_CALLBACK (on_request_started), this);
  watch_listener ();
  tick_source_ = attach (
      g_timeout_source_new (kTickMs), context_,
      [] (gpointer self) -> gboolean {
        static_cast<HttpServer *> (self)->tick ();
        return G_SOURCE_CONTINUE;
      },
      this);

  g_main_loop_run (loop_);

  stop_listening ();
  destroy (tick_source_);
  destroy (end_source_);
  std::vector<SoupServerMessage *> last; // letting go of them changes the table
  for (auto &[stream, connection] : connections_) {
    if (connection->last_message)
      last.push_back (std::exchange (connection->last_message, nullptr));
  }
  soup_server_disconnect (soup_);
  for (SoupServerMessage *message : last)
    g_object_unref (message);
  g_clear_object (&soup_);
  while (g_main_context_iteration (context_, FALSE)) // lets go of what the connections held
    ;
  for (auto &[stream, connection] : connections_) {
    if (connection->stream)
      g_object_weak_unref (stream, on_connection_gone, connection.get ());
  }
  connections_.clear ();
  connection_count_ = 0;
  g_main_context_pop_thread_default (context_);
}

void
HttpServer::stop ()
{
  if (!thread_.joinable ())
    return;
  struct Quit final : ServerTask {
    HttpServer &server;
    explicit Quit (HttpServer &server)
        : server (server)
    {
    }
    void run_in_server () override { server.begin_end (); }
  };
  tasks_->add (std::make_shared<Quit> (*this)); // from inside: a loop that has not begun to run would miss it
  thread_.join ();
  destroy (task_source_);
  destroy (ended_source_);
  destroy (uncork_source_);
  corked_.clear ();
  tasks_->close ();
  g_main_loop_unref (loop_);
  g_main_context_unref (context_);
  loop_ = nullptr;
  context_ = nullptr;
}

void
HttpServer::begin_end ()
{
  stop_listening ();
  end_us_ = steady_now_us () + kGraceMs * 1000;
  if (end_source_)
    return;
  end_source_ = attach (
      g_timeout_source_new (1), context_,
      [] (gpointer data) -> gboolean {
        auto *self = static_cast<HttpServer *> (data);
        if (!self->handler_.busy () || steady_now_us () > self->end_us_)
          g_main_loop_quit (self->loop_);
        return G_SOURCE_CONTINUE;
      },
      this);
}

void
HttpServer::stop_listening ()
{
  destroy (accept_source_);
  if (listener_)
    g_socket_close (listener_.get (), nullptr);
  listener_ = nullptr;
}

// --- tasks --------------------------------------------------------------------------------------

void
HttpServer::run_tasks ()
{
  for (const auto &task : tasks_->take ())
    task->run_in_server ();
}

void
HttpServer::cork (Connection &connection)
{
  GSocket *socket = connection.socket.get ();
  if (std::any_of (corked_.begin (), corked_.end (),
                   [&] (const auto &other) { return other.get () == socket; }))
    return;
  g_socket_set_option (socket, IPPROTO_TCP, TCP_CORK, TRUE, nullptr);
  if (corked_.empty ()) {
    uncork_rounds_ = kUncorkRounds;
    g_source_set_ready_time (uncork_source_, 0);
  }
  corked_.push_back (connection.socket);
}

void
HttpServer::uncork_all ()
{
  if (--uncork_rounds_ > 0) {
    g_source_set_ready_time (uncork_source_, 0);
    return;
  }
  for (const auto &socket : corked_)
    g_socket_set_option (socket.get (), IPPROTO_TCP, TCP_CORK, FALSE, nullptr);
  corked_.clear ();
}

void
HttpServer::tick ()
{
  const int64_t now = steady_now_us ();
  using Phase = Connection::Phase;
  for (auto &[stream, connection] : connections_) {
    if (connection->deadline_us == 0 || connection->deadline_us > now)
      continue;
    connection->deadline_us = 0;
    if (connection->phase == Phase::kHeaders || connection->phase == Phase::kBody)
      refuse (*connection,
              raw_answer (408, "request_timeout",
                          connection->phase == Phase::kBody ? "the body did not arrive in time"
                                                            : "the headers did not arrive in time"));
    else if (connection->phase == Phase::kIdle)
      connection->ended = true;
    else
      g_socket_shutdown (connection->socket.get (), TRUE, TRUE, nullptr);
  }
  close_ended ();
  handler_.tick (now);
}

void
HttpServer::refuse (Connection &connection, const std::string &answer)
{
  if (connection.phase == Connection::Phase::kRefused)
    return;
  connection.enter (Connection::Phase::kRefused);
  // SoupServer is reading; nobody else writes. A few hundred bytes fit into the socket's buffer.
  GOutputStream *out = connection.stream ? g_io_stream_get_output_stream (connection.stream) : nullptr;
  if (out)
    g_pollable_output_stream_write_nonblocking (G_POLLABLE_OUTPUT_STREAM (out), answer.data (),
                                                answer.size (), nullptr, nullptr);
  else if (!certificate_)
    g_socket_send (connection.socket.get (), answer.data (), answer.size (), nullptr, nullptr);
  g_socket_shutdown (connection.socket.get (), FALSE, TRUE, nullptr);
}

// --- connections --------------------------------------------------------------------------------

void
HttpServer::watch_listener ()
{
  destroy (accept_source_);
  if (!listener_)
    return;
  accept_source_ = g_socket_create_source (listener_.get (), G_IO_IN, nullptr);
  g_source_set_callback (accept_source_,
                         G_SOURCE_FUNC (+[] (GSocket *, GIOCondition, gpointer self) -> gboolean {
                           static_cast<HttpServer *> (self)->accept_all ();
                           return G_SOURCE_CONTINUE;
                         }),
                         this, nullptr);
  g_source_attach (accept_source_, context_);
}

void
HttpServer::pause_listening ()
{
  destroy (accept_source_);
  accept_source_ = attach (
      g_timeout_source_new (kAcceptPauseMs), context_,
      [] (gpointer self) -> gboolean {
        static_cast<HttpServer *> (self)->watch_listener ();
        return G_SOURCE_CONTINUE; // destroyed by now
      },
      this);
}

void
HttpServer::accept_all ()
{
  for (;;) {
    GError *error = nullptr;
    auto socket = Ref<GSocket>::adopt (g_socket_accept (listener_.get (), nullptr, &error));
    if (socket) {
      accept (std::move (socket));
      continue;
    }
    const bool would_block = g_error_matches (error, G_IO_ERROR, G_IO_ERROR_WOULD_BLOCK);
    const bool exhausted = g_error_matches (error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES) ||
                           g_error_matches (error, G_IO_ERROR, G_IO_ERROR_NO_SPACE);
    if (!would_block)
      g_info ("accept: %s", error->message);
    g_clear_error (&error);
    if (exhausted)
      pause_listening (); // the source would be ready at once, again and again
    if (would_block || exhausted)
      return;
  }
}

void
HttpServer::accept (Ref<GSocket> socket)
{
  auto connection = std::make_unique<Connection> ();
  connection->server = this;
  connection->socket = std::move (socket);
  GSocket *raw = connection->socket.get ();
  g_socket_set_blocking (raw, FALSE);
  g_socket_set_option (raw, IPPROTO_TCP, TCP_NODELAY, TRUE, nullptr);
  g_socket_set_option (raw, SOL_SOCKET, SO_SNDBUF, kSendBufferBytes, nullptr);
  connection->local = Ref<GSocketAddress>::adopt (g_socket_get_local_address (raw, nullptr));
  connection->remote = Ref<GSocketAddress>::adopt (g_socket_get_remote_address (raw, nullptr));
  if (!connection->local || !connection->remote)
    return; // gone already
  if (static_cast<int> (connections_.size ()) >= settings_.max_connections) {
    refuse (*connection,
            raw_answer (503, "too_many_connections", "the server has as many connections as it allows"));
    return;
  }
  if (G_IS_INET_SOCKET_ADDRESS (connection->remote.get ())) {
    g_autofree char *text = g_inet_address_to_string (
        g_inet_socket_address_get_address (G_INET_SOCKET_ADDRESS (connection->remote.get ())));
    connection->client = text;
  }
  // How messages find their connection: SoupServer hands this very object out again.
  g_object_set_data (G_OBJECT (connection->remote.get ()), kConnectionKey, connection.get ());

  auto plain = Ref<GIOStream>::adopt (G_IO_STREAM (g_socket_connection_factory_create_connection (raw)));
  if (!certificate_) {
    connection->waiting_stream = plain;
    hand_over (*connection.release ());
    return;
  }
  GError *error = nullptr;
  auto tls = Ref<GIOStream>::adopt (g_tls_server_connection_new (plain.get (), certificate_.get (), &error));
  if (!tls) {
    g_info ("TLS: %s", error->message);
    g_clear_error (&error);
    return;
  }
  const char *protocols[] = {"http/1.1", nullptr};
  g_tls_connection_set_advertised_protocols (G_TLS_CONNECTION (tls.get ()), protocols);
  g_tls_connection_set_require_close_notify (G_TLS_CONNECTION (tls.get ()), FALSE);
  connection->waiting_stream = tls;
  Connection *waiting = connection.release ();
  waiting->enter (Connection::Phase::kHandshake);
  connections_[G_OBJECT (tls.get ())].reset (waiting);
  connection_count_ = static_cast<int> (connections_.size ());
  g_tls_connection_handshake_async (
      G_TLS_CONNECTION (tls.get ()), G_PRIORITY_DEFAULT, nullptr,
      [] (GObject *stream, GAsyncResult *result, gpointer self) {
        auto *server = static_cast<HttpServer *> (self);
        const bool done = g_tls_connection_handshake_finish (G_TLS_CONNECTION (stream), result, nullptr);
        const auto found = server->connections_.find (stream);
        if (found == server->connections_.end ())
          return; // the server stops
        Connection *connection = found->second.release ();
        server->connections_.erase (found);
        server->connection_count_ = static_cast<int> (server->connections_.size ());
        if (done)
          server->hand_over (*connection);
        else
          delete connection;
      },
      this);
}

/// Takes the connection over from its creator and gives its stream to SoupServer.
void
HttpServer::hand_over (Connection &connection)
{
  const auto plain = std::exchange (connection.waiting_stream, nullptr);
  const HttpStreamWatcher watcher = {
      [] (gpointer data) { return static_cast<Connection *> (data)->phase == Connection::Phase::kIdle; },
      [] (gpointer data) {
        auto *connection = static_cast<Connection *> (data);
        connection->ended = true;
        if (connection->server->ended_source_)
          g_source_set_ready_time (connection->server->ended_source_, 0);
      },
      &connection};
  const auto stream = Ref<GIOStream>::adopt (http_stream_new (plain.get (), watcher));
  connection.stream = stream.get ();
  connections_[G_OBJECT (stream.get ())].reset (&connection);
  connection_count_ = static_cast<int> (connections_.size ());
  g_object_weak_ref (G_OBJECT (stream.get ()), on_connection_gone, &connection);
  connection.enter (Connection::Phase::kHeaders);
  soup_server_accept_iostream (soup_, stream.get (), connection.local.get (), connection.remote.get (),
                               nullptr);
}

/// Takes a connection that waits for its next request away from SoupServer and closes it.
void
HttpServer::close_idle (Connection &connection)
{
  SoupServerMessage *message = std::exchange (connection.last_message, nullptr);
  if (!message)
    return;
  const bool connected = !g_io_stream_is_closed (connection.stream);
  if (connected && connection.phase == Connection::Phase::kIdle) {
    const auto stream = Ref<GIOStream>::adopt (soup_server_message_steal_connection (message));
    if (stream)
      g_io_stream_close (stream.get (), nullptr, nullptr);
  }
  g_object_unref (message); // may be what the connection lives by
}

void
HttpServer::close_ended ()
{
  std::vector<Connection *> ended; // closing changes the table
  for (auto &[stream, connection] : connections_) {
    if (connection->last_message && connection->stream &&
        (connection->ended || g_io_stream_is_closed (connection->stream)))
      ended.push_back (connection.get ());
  }
  for (Connection *connection : ended)
    close_idle (*connection);
}

void
HttpServer::on_connection_gone (gpointer data, GObject *stream)
{
  auto *connection = static_cast<Connection *> (data);
  HttpServer *server = connection->server;
  g_object_set_data (G_OBJECT (connection->remote.get ()), kConnectionKey, nullptr);
  server->connections_.erase (stream);
  server->connection_count_ = static_cast<int> (server->connections_.size ());
}

void
HttpServer::on_request_started (SoupServer *, SoupServerMessage *message, gpointer data)
{
  auto *self = static_cast<HttpServer *> (data);
  GSocketAddress *remote = soup_server_message_get_remote_address (message);
  auto *connection =
      remote ? static_cast<Connection *> (g_object_get_data (G_OBJECT (remote), kConnectionKey)) : nullptr;
  if (!connection)
    return;
  connection->remember (nullptr);
  connection->enter (Connection::Phase::kHeaders);
  HttpExchange::attach (*self, self->handler_, *connection, message);
}

} // namespace millrace
