// Requests to a hub and to where it redirects: one thread's HTTP client.
//
// The token goes to the endpoint's own scheme, host and port and nowhere else, whatever is redirected where. Redirects are
// followed here, not by libsoup: at most kMostRedirects, to http and https only, never from https to http. Bodies come as they
// are sent (no content encodings). Failures are values with a sentence for people: address (without its query, which may
// hold a signature), status, remedy.
#pragma once

#include "library/ref.hpp"

#include <libsoup/soup.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

namespace millrace
{

struct HubEndpoint {
  std::string url;   ///< without a slash at its end
  std::string token; ///< empty: none
};

/// The address of a hub as a user gives it; none when it is not one of http or https with a host.
std::optional<HubEndpoint> hub_endpoint (const char *url, const char *token);

struct HubFailure {
  std::string message;
  bool passing = false; ///< another attempt may go well
  std::optional<double> retry_after_s{};
};

struct HubRequest {
  std::string url;
  std::string range = {};    ///< of the header Range; empty: the whole
  std::string if_range = {}; ///< a strong ETag
};

struct HubResponse {
  unsigned status = 0;
  std::string url;                ///< that answered, without its query
  std::optional<uint64_t> length; ///< of the body
  std::optional<uint64_t> begin;  ///< of Content-Range: first byte, and size of the whole
  std::optional<uint64_t> whole;
  std::string tag;    ///< ETag, where it is strong
  std::string digest; ///< what the hub says of the file: X-Linked-Etag or its own ETag, without quotes
  std::string next;   ///< address of the next page (Link)
  Ref<GInputStream> body;
};

struct UriUnref {
  void operator() (GUri *uri) const { g_uri_unref (uri); }
};
using Uri = std::unique_ptr<GUri, UriUnref>;

class HubClient
{
public:
  static constexpr int kMostRedirects = 8;

  /// A connection that brings nothing for `timeout_s` is given up.
  HubClient (const HubEndpoint &endpoint, unsigned timeout_s);
  ~HubClient ();
  HubClient (const HubClient &) = delete;
  HubClient &operator= (const HubClient &) = delete;

  /// Blocks until the headers are there. Status 200, 206 and 416 are responses, all others failures.
  std::variant<HubResponse, HubFailure> get (const HubRequest &request, GCancellable *cancellable);
  /// A whole body of at most `most` bytes.
  std::variant<std::string, HubFailure> read_all (const HubResponse &response, size_t most,
                                                  GCancellable *cancellable) const;

private:
  bool is_endpoint (GUri *uri) const;
  Ref<SoupMessage> message_for (GUri *uri, const HubRequest &request) const;
  HubFailure failure_of (SoupMessage *message, const std::string &url) const;

  HubEndpoint endpoint_;
  Uri endpoint_uri_;
  GMainContext *context_; ///< of libsoup's sockets, this thread's own
  Ref<SoupSession> session_;
};

/// What GIO says of a failed transfer.
HubFailure transfer_failure (const GError *error, const std::string &url);

} // namespace millrace
