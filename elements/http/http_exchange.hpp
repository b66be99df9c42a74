// One HTTP request and its response, in the server's thread.
//
// The traps of SoupServerMessage are dealt with here and nowhere else: a response that is paused is not watched (the
// socket is, for its peer's end), an empty chunk would end the body, a body that accumulates would be kept whole.
#pragma once

#include "elements/http/http_server.hpp"
#include "engine/api/api_types.hpp"

#include <functional>
#include <string>
#include <string_view>

namespace millrace
{

class HttpExchange : public std::enable_shared_from_this<HttpExchange>
{
public:
  /// Makes an exchange for a message that has begun to arrive; the message owns it.
  static void attach (HttpServer &server, HttpHandler &handler, HttpServer::Connection &connection,
                      SoupServerMessage *message);
  static HttpExchange *of (SoupServerMessage *message);
  ~HttpExchange ();
  HttpExchange (const HttpExchange &) = delete;
  HttpExchange &operator= (const HttpExchange &) = delete;

  // The request.
  std::string_view method () const { return method_; }
  std::string_view path () const { return path_; }
  std::string_view header (const char *name) const; ///< empty when it is not there
  std::string_view body () const { return body_; }
  const std::string &client () const { return client_; }
  int64_t received_us () const { return received_us_; } ///< when its headers were there
  const std::string &id () const { return id_; }        ///< X-Request-Id, the client's if it is a decent one

  // The response: either answer () once, or start_stream (), send () any number of times, end_stream ().
  void set_header (const char *name, const std::string &value);
  void answer (int status, const char *content_type, std::string body);
  void answer_error (Dialect dialect, const ApiError &error);
  /// The answer comes later, from outside got_request ().
  void wait ();
  void start_stream (const char *content_type);
  void send (std::string bytes);
  void end_stream ();
  /// Ends the connection in the middle of whatever it does, and forgets what the kernel has not sent.
  void disconnect ();

  bool answered () const { return status_ != 0; }
  bool gone () const { return message_ == nullptr; } ///< over, one way or the other
  int status () const { return status_; }
  size_t unsent () const { return sent_ - written_; } ///< bytes of a stream that the socket has not taken
  /// Bytes of a stream that the client's machine has taken; the framing of those that are under way is missing from it.
  int64_t taken () const;
  uint64_t sent_bytes () const { return sent_; }
  HttpServer &server () { return server_; }

  /// The client left before the response's end.
  std::function<void ()> on_gone;
  /// Bytes of a stream have gone out.
  std::function<void ()> on_written;
  /// The exchange is over; for the log. Called once, after on_gone.
  std::function<void (const HttpExchange &)> on_over;

private:
  HttpExchange (HttpServer &server, HttpHandler &handler, HttpServer::Connection &connection,
                SoupServerMessage *message);
  void got_headers ();
  void refuse_now ();
  void got_chunk (GBytes *chunk);
  void finished ();
  void forget ();
  void watch_peer ();
  void stop_watching ();

  HttpServer &server_;
  HttpHandler &handler_;
  HttpServer::Connection *connection_; ///< until the exchange is over
  SoupServerMessage *message_;         ///< until the exchange is over
  GSource *peer_watch_ = nullptr;
  std::string id_, client_, method_, path_, body_;
  bool too_large_ = false, streaming_ = false, paused_ = false, complete_ = false;
  int status_ = 0;
  size_t sent_ = 0, written_ = 0;
  int64_t received_us_ = 0;

  friend class HttpServer;
};

} // namespace millrace
