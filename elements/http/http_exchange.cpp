#include "elements/http/http_exchange.hpp"

#include "engine/clock.hpp"

#include <glib-unix.h>

#include <algorithm>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <utility>

namespace millrace
{

namespace
{

constexpr const char *kKey = "millrace-exchange";
constexpr size_t kMaxIdBytes = 128;

bool
decent_id (std::string_view id)
{
  return !id.empty () && id.size () <= kMaxIdBytes && std::all_of (id.begin (), id.end (), [] (char c) {
    return g_ascii_isalnum (c) || c == '-' || c == '_' || c == '.';
  });
}

std::string
fresh_id ()
{
  g_autofree char *text = g_uuid_string_random ();
  std::string id = text;
  std::erase (id, '-');
  return id;
}

/// Such requests must be refused: who stands between might take another length (RFC 9112, 6.3).
bool
has_several_lengths (SoupMessageHeaders *request)
{
  const char *lengths = soup_message_headers_get_list (request, "Content-Length");
  return lengths && std::string_view (lengths).find (',') != std::string_view::npos;
}

using Holder = std::shared_ptr<HttpExchange>;

} // namespace

HttpExchange::HttpExchange (HttpServer &server, HttpHandler &handler, HttpServer::Connection &connection,
                            SoupServerMessage *message)
    : server_ (server)
    , handler_ (handler)
    , connection_ (&connection)
    , message_ (message)
    , client_ (connection.client)
{
}

HttpExchange::~HttpExchange () = default;

HttpExchange *
HttpExchange::of (SoupServerMessage *message)
{
  auto *holder = static_cast<Holder *> (g_object_get_data (G_OBJECT (message), kKey));
  return holder ? holder->get () : nullptr;
}

void
HttpExchange::attach (HttpServer &server, HttpHandler &handler, HttpServer::Connection &connection,
                      SoupServerMessage *message)
{
  auto *self = new HttpExchange (server, handler, connection, message);
  g_object_set_data_full (G_OBJECT (message), kKey, new Holder (self), [] (gpointer data) {
    auto *holder = static_cast<Holder *> (data);
    (*holder)->forget (); // a generation may keep it longer than the message lives
    delete holder;
  });
  // What libsoup refuses by itself has this body; got_headers () takes it away.
  ApiError malformed = invalid_request ("", "this is not a well-formed HTTP request");
  const std::string body = error_body (Dialect::kChat, malformed);
  soup_server_message_set_response (message, "application/json", SOUP_MEMORY_COPY, body.data (),
                                    body.size ());

  using Signal = void (*) (SoupServerMessage *, gpointer);
  const auto connect = [&] (const char *name, Signal handler) {
    g_signal_connect (message, name, G_CALLBACK (handler), self);
  };
  connect ("got-headers",
           [] (SoupServerMessage *, gpointer data) { static_cast<HttpExchange *> (data)->got_headers (); });
  connect ("got-body", [] (SoupServerMessage *, gpointer data) {
    auto *exchange = static_cast<HttpExchange *> (data);
    if (exchange->connection_ && exchange->connection_->phase == HttpServer::Connection::Phase::kBody)
      exchange->connection_->enter (HttpServer::Connection::Phase::kAnswer);
  });
  connect ("finished",
           [] (SoupServerMessage *, gpointer data) { static_cast<HttpExchange *> (data)->finished (); });
  g_signal_connect (message, "got-chunk",
                    G_CALLBACK (+[] (SoupServerMessage *, GBytes *chunk, gpointer data) {
                      static_cast<HttpExchange *> (data)->got_chunk (chunk);
                    }),
                    self);
  g_signal_connect (message, "wrote-body-data",
                    G_CALLBACK (+[] (SoupServerMessage *, guint size, gpointer data) {
                      auto *exchange = static_cast<HttpExchange *> (data);
                      exchange->written_ = std::min (exchange->sent_, exchange->written_ + size);
                      if (exchange->streaming_ && exchange->on_written)
                        exchange->on_written ();
                    }),
                    self);
}

// --- the request --------------------------------------------------------------------------------

std::string_view
HttpExchange::header (const char *name) const
{
  const char *value =
      message_ ? soup_message_headers_get_one (soup_server_message_get_request_headers (message_), name)
               : nullptr;
  return value ? value : "";
}

void
HttpExchange::got_headers ()
{
  received_us_ = steady_now_us ();
  if (const char *method = soup_server_message_get_method (message_))
    method_ = method;
  if (GUri *uri = soup_server_message_get_uri (message_))
    path_ = g_uri_get_path (uri);
  const std::string_view wanted = header ("X-Request-Id");
  id_ = decent_id (wanted) ? std::string (wanted) : fresh_id ();
  connection_->enter (HttpServer::Connection::Phase::kBody);
  soup_message_body_set_accumulate (soup_server_message_get_request_body (message_), FALSE);
  if (const guint status = soup_server_message_get_status (message_); status != 0) {
    status_ = static_cast<int> (status); // libsoup has refused it
    return;
  }
  soup_message_body_truncate (soup_server_message_get_response_body (message_));
  // Nothing here has parts worth asking for; libsoup would cut answers up behind our back.
  soup_message_headers_remove (soup_server_message_get_request_headers (message_), "Range");
  handler_.got_headers (*this);
  if (has_several_lengths (soup_server_message_get_request_headers (message_))) {
    set_header ("Connection", "close"); // whatever the answer is: what follows may be meant as a body
    if (!answered ())
      answer_error (Dialect::kChat,
                    {.status = 400,
                     .type = "invalid_request_error",
                     .code = "invalid_content_length",
                     .message = "send one Content-Length: with several it is not clear where the body ends"});
  }
  const goffset length =
      soup_message_headers_get_content_length (soup_server_message_get_request_headers (message_));
  if (static_cast<uint64_t> (std::max<goffset> (length, 0)) > server_.settings ().max_body_bytes)
    too_large_ = true;
  if (too_large_ && !answered ()) {
    answer_error (Dialect::kChat,
                  {.status = 413,
                   .type = "invalid_request_error",
                   .code = "request_too_large",
                   .message = "the body has " + std::to_string (length) + " bytes; the limit is " +
                              std::to_string (server_.settings ().max_body_bytes)});
  }
  if (answered ())
    refuse_now ();
}

/// SoupServer would read the whole body before it answers. A client that waits for "100 Continue" gets its answer from
/// it at once; any other gets it here.
void
HttpExchange::refuse_now ()
{
  SoupMessageHeaders *request = soup_server_message_get_request_headers (message_);
  const bool has_body = soup_message_headers_get_encoding (request) == SOUP_ENCODING_CHUNKED ||
                        soup_message_headers_get_content_length (request) > 0;
  if (!has_body || (soup_message_headers_get_expectations (request) & SOUP_EXPECTATION_CONTINUE))
    return;
  set_header ("Connection", "close");
  std::string answer = "HTTP/1.1 " + std::to_string (status_) + " " +
                       soup_status_get_phrase (static_cast<guint> (status_)) + "\r\n";
  SoupMessageHeadersIter iterator;
  soup_message_headers_iter_init (&iterator, soup_server_message_get_response_headers (message_));
  const char *name = nullptr, *value = nullptr;
  while (soup_message_headers_iter_next (&iterator, &name, &value))
    answer += std::string (name) + ": " + value + "\r\n";
  answer += "\r\n";
  GBytes *body = soup_message_body_flatten (soup_server_message_get_response_body (message_));
  gsize size = 0;
  const void *data = g_bytes_get_data (body, &size);
  if (size > 0)
    answer.append (static_cast<const char *> (data), size);
  g_bytes_unref (body);
  server_.refuse (*connection_, answer);
}

void
HttpExchange::got_chunk (GBytes *chunk)
{
  if (answered ())
    return; // what is left of it is read and dropped
  gsize size = 0;
  const void *data = g_bytes_get_data (chunk, &size);
  if (body_.size () + size > server_.settings ().max_body_bytes) {
    body_.clear ();
    body_.shrink_to_fit ();
    answer_error (Dialect::kChat,
                  {.status = 413,
                   .type = "invalid_request_error",
                   .code = "request_too_large",
                   .message = "the body has more than " +
                              std::to_string (server_.settings ().max_body_bytes) + " bytes, the limit"});
    return;
  }
  body_.append (static_cast<const char *> (data), size);
}

// --- the response -------------------------------------------------------------------------------

void
HttpExchange::set_header (const char *name, const std::string &value)
{
  if (message_)
    soup_message_headers_replace (soup_server_message_get_response_headers (message_), name, value.c_str ());
}

void
HttpExchange::answer (int status, const char *content_type, std::string body)
{
  if (!message_ || answered ())
    return;
  status_ = status;
  sent_ = body.size ();
  set_header ("X-Request-Id", id_);
  soup_server_message_set_status (message_, static_cast<guint> (status), nullptr);
  soup_message_headers_set_content_length (soup_server_message_get_response_headers (message_),
                                           static_cast<goffset> (body.size ()));
  if (!body.empty ())
    soup_server_message_set_response (message_, content_type, SOUP_MEMORY_COPY, body.data (), body.size ());
  if (std::exchange (paused_, false))
    soup_server_message_unpause (message_);
}

void
HttpExchange::answer_error (Dialect dialect, const ApiError &error)
{
  if (error.retry_after_ms > 0)
    set_header ("Retry-After", std::to_string ((error.retry_after_ms + 999) / 1000));
  if (error.status == 413 || error.status == 503)
    set_header ("Connection", "close");
  if (error.status == 401)
    set_header ("WWW-Authenticate", "Bearer");
  answer (error.status, "application/json", error_body (dialect, error));
}

void
HttpExchange::start_stream (const char *content_type)
{
  if (!message_ || answered ())
    return;
  status_ = 200;
  streaming_ = true;
  set_header ("X-Request-Id", id_);
  set_header ("Cache-Control", "no-cache");
  set_header ("X-Accel-Buffering", "no"); // nginx would collect the events
  SoupMessageHeaders *headers = soup_server_message_get_response_headers (message_);
  soup_server_message_set_status (message_, 200, nullptr);
  soup_message_headers_set_content_type (headers, content_type, nullptr);
  const bool old = soup_server_message_get_http_version (message_) == SOUP_HTTP_1_0;
  soup_message_headers_set_encoding (headers, old ? SOUP_ENCODING_EOF : SOUP_ENCODING_CHUNKED);
  soup_message_body_set_accumulate (soup_server_message_get_response_body (message_), FALSE);
  paused_ = false;
  soup_server_message_unpause (message_);
}

void
HttpExchange::send (std::string bytes)
{
  if (!message_ || !streaming_ || complete_ || bytes.empty ())
    return;
  sent_ += bytes.size ();
  server_.cork (*connection_);
  auto *kept = new std::string (std::move (bytes));
  GBytes *chunk = g_bytes_new_with_free_func (
      kept->data (), kept->size (), [] (gpointer data) { delete static_cast<std::string *> (data); }, kept);
  soup_message_body_append_bytes (soup_server_message_get_response_body (message_), chunk);
  g_bytes_unref (chunk);
  soup_server_message_unpause (message_);
}

void
HttpExchange::end_stream ()
{
  if (!message_ || !streaming_ || std::exchange (complete_, true))
    return;
  soup_message_body_complete (soup_server_message_get_response_body (message_));
  soup_server_message_unpause (message_);
}

int64_t
HttpExchange::taken () const
{
  int in_socket = 0;
  if (!connection_ || ioctl (g_socket_get_fd (connection_->socket.get ()), SIOCOUTQ, &in_socket) != 0)
    in_socket = 0;
  return static_cast<int64_t> (written_) - in_socket;
}

void
HttpExchange::disconnect ()
{
  if (!connection_)
    return;
  // Otherwise the kernel would keep what a client does not take for minutes.
  const linger now{.l_onoff = 1, .l_linger = 0};
  setsockopt (g_socket_get_fd (connection_->socket.get ()), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  g_socket_shutdown (connection_->socket.get (), TRUE, TRUE, nullptr);
}

/// Waits for an answer that comes later.
void
HttpExchange::wait ()
{
  if (!message_ || answered ())
    return;
  paused_ = true;
  soup_server_message_pause (message_);
  watch_peer ();
}

/// libsoup reads nothing while a response is paused or has nothing to write: the socket itself says when its peer is
/// gone. Whatever else arrives, a next request or a record of TLS, is no sign of that.
void
HttpExchange::watch_peer ()
{
  if (!connection_ || peer_watch_)
    return;
  peer_watch_ = g_unix_fd_source_new (g_socket_get_fd (connection_->socket.get ()),
                                      static_cast<GIOCondition> (POLLRDHUP | G_IO_HUP | G_IO_ERR));
  g_source_set_callback (peer_watch_, G_SOURCE_FUNC (+[] (gint, GIOCondition, gpointer data) -> gboolean {
                           auto *exchange = static_cast<HttpExchange *> (data);
                           const auto self = exchange->shared_from_this ();
                           exchange->stop_watching ();
                           if (!exchange->complete_ && exchange->on_gone)
                             std::exchange (exchange->on_gone, nullptr) ();
                           exchange->disconnect ();
                           if (exchange->message_ && exchange->paused_) { // makes libsoup look, and end
                             exchange->paused_ = false;
                             soup_server_message_unpause (exchange->message_);
                           }
                           return G_SOURCE_REMOVE;
                         }),
                         this, nullptr);
  g_source_attach (peer_watch_, g_main_context_get_thread_default ());
}

void
HttpExchange::stop_watching ()
{
  if (!peer_watch_)
    return;
  g_source_destroy (peer_watch_);
  g_source_unref (std::exchange (peer_watch_, nullptr));
}

void
HttpExchange::forget ()
{
  stop_watching ();
  message_ = nullptr;
  connection_ = nullptr;
}

void
HttpExchange::finished ()
{
  if (!message_)
    return;
  const auto self = shared_from_this ();
  stop_watching ();
  SoupServerMessage *message = std::exchange (message_, nullptr);
  if (auto *connection = std::exchange (connection_, nullptr);
      connection && connection->phase != HttpServer::Connection::Phase::kRefused) {
    connection->remember (message);
    connection->enter (HttpServer::Connection::Phase::kIdle);
  }
  const bool whole = streaming_ ? complete_ && unsent () == 0 : status_ != 0;
  if (!whole && on_gone)
    std::exchange (on_gone, nullptr) ();
  if (on_over)
    std::exchange (on_over, nullptr) (*this);
  on_gone = nullptr;
  on_written = nullptr;
  g_signal_handlers_disconnect_by_data (message, this);
  g_object_set_data (G_OBJECT (message), kKey, nullptr); // may be the last reference but `self`
}

} // namespace millrace
