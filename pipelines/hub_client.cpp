#include "pipelines/hub_client.hpp"

#include "engine/hub/retry.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <cstdlib>
#include <cstring>
#include <string_view>

namespace millrace
{

namespace
{

constexpr size_t kReadBytes = 64 << 10;
const auto kUriFlags = static_cast<GUriFlags> (SOUP_HTTP_URI_FLAGS);

std::string
without_query (GUri *uri)
{
  g_autofree char *text = g_uri_to_string_partial (
      uri, static_cast<GUriHideFlags> (G_URI_HIDE_QUERY | G_URI_HIDE_FRAGMENT | G_URI_HIDE_USERINFO));
  return printable (text);
}

int
port_of (GUri *uri)
{
  const int port = g_uri_get_port (uri);
  return port > 0 ? port : std::strcmp (g_uri_get_scheme (uri), "https") == 0 ? 443 : 80;
}

bool
is_http (GUri *uri)
{
  const std::string_view scheme = g_uri_get_scheme (uri);
  return (scheme == "http" || scheme == "https") && g_uri_get_host (uri) && g_uri_get_host (uri)[0] != '\0';
}

std::string
header (SoupMessage *message, const char *name)
{
  const char *value = soup_message_headers_get_one (soup_message_get_response_headers (message), name);
  return value ? value : "";
}

/// A strong entity tag, with its quotes.
std::string
strong_tag (const std::string &tag)
{
  return tag.size () > 2 && tag.front () == '"' && tag.back () == '"' ? tag : std::string ();
}

/// The digest in an entity tag, weak ones too.
std::string
digest_in (std::string_view tag)
{
  if (tag.starts_with ("W/"))
    tag.remove_prefix (2);
  if (tag.size () > 2 && tag.front () == '"' && tag.back () == '"')
    tag = tag.substr (1, tag.size () - 2);
  return std::string (tag);
}

std::optional<double>
retry_after_s (SoupMessage *message)
{
  const std::string value = header (message, "Retry-After");
  if (value.empty ())
    return std::nullopt;
  char *end = nullptr;
  const double seconds = g_ascii_strtod (value.c_str (), &end);
  if (end != value.c_str () && *end == '\0' && seconds >= 0)
    return seconds;
  GDateTime *date = soup_date_time_new_from_http_string (value.c_str ());
  if (!date)
    return std::nullopt;
  GDateTime *now = g_date_time_new_now_utc ();
  const auto difference = static_cast<double> (g_date_time_difference (date, now)) / G_TIME_SPAN_SECOND;
  g_date_time_unref (now);
  g_date_time_unref (date);
  return MAX (difference, 0.0);
}

/// The address of Link: <…>; rel="next".
std::string
next_page (SoupMessage *message)
{
  const std::string link = header (message, "Link");
  const size_t begin = link.find ('<'), end = link.find ('>');
  if (begin == std::string::npos || end == std::string::npos || end < begin ||
      link.find ("rel=\"next\"", end) == std::string::npos)
    return {};
  return link.substr (begin + 1, end - begin - 1);
}

/// What the hub itself says of a file, beside or before the redirect to where it lies.
std::string
linked_digest (SoupMessage *message)
{
  const std::string linked = digest_in (header (message, "X-Linked-Etag"));
  return linked.empty () ? digest_in (header (message, "ETag")) : linked;
}

bool
is_redirect (unsigned status)
{
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// Why it is not followed; null when it is. `next` may be null.
const char *
redirect_problem (GUri *from, GUri *next)
{
  if (!next || !is_http (next))
    return "which is no address of http or https";
  if (std::strcmp (g_uri_get_scheme (from), "https") == 0 &&
      std::strcmp (g_uri_get_scheme (next), "https") != 0)
    return "out of https, which is not followed";
  return nullptr;
}

HubResponse
response_of (SoupMessage *message, Ref<GInputStream> body)
{
  HubResponse response;
  response.status = soup_message_get_status (message);
  response.url = without_query (soup_message_get_uri (message));
  response.body = std::move (body);
  SoupMessageHeaders *headers = soup_message_get_response_headers (message);
  if (soup_message_headers_get_encoding (headers) == SOUP_ENCODING_CONTENT_LENGTH)
    response.length = static_cast<uint64_t> (soup_message_headers_get_content_length (headers));
  goffset begin = 0, end = 0, whole = -1;
  if (soup_message_headers_get_content_range (headers, &begin, &end, &whole) && begin >= 0) {
    response.begin = static_cast<uint64_t> (begin);
    if (whole >= 0)
      response.whole = static_cast<uint64_t> (whole);
  }
  response.tag = strong_tag (header (message, "ETag"));
  response.next = next_page (message);
  return response;
}

} // namespace

std::optional<HubEndpoint>
hub_endpoint (const char *url, const char *token)
{
  const Uri uri (g_uri_parse (url, kUriFlags, nullptr));
  if (!uri || !is_http (uri.get ()) || g_uri_get_query (uri.get ()) || g_uri_get_userinfo (uri.get ()))
    return std::nullopt;
  HubEndpoint endpoint{url, token ? token : ""};
  while (endpoint.url.ends_with ('/'))
    endpoint.url.pop_back ();
  return endpoint;
}

HubFailure
transfer_failure (const GError *error, const std::string &url)
{
  HubFailure failure{url + ": " + error->message};
  failure.passing =
      error->domain != G_TLS_ERROR && !g_error_matches (error, G_IO_ERROR, G_IO_ERROR_CANCELLED);
  if (error->domain == G_TLS_ERROR)
    failure.message += "; the server's certificate is not one that this machine trusts";
  if (error->domain == G_RESOLVER_ERROR)
    failure.message += "; is there a network, and is the address of the hub right?";
  return failure;
}

HubClient::HubClient (const HubEndpoint &endpoint, unsigned timeout_s)
    : endpoint_ (endpoint)
    , endpoint_uri_ (g_uri_parse (endpoint.url.c_str (), kUriFlags, nullptr))
    , context_ (g_main_context_new ())
{
  g_main_context_push_thread_default (context_);
  session_ = Ref<SoupSession>::adopt (soup_session_new_with_options ("timeout", timeout_s, "user-agent",
                                                                     "millrace/" MILLRACE_VERSION, nullptr));
  soup_session_remove_feature_by_type (session_.get (), SOUP_TYPE_CONTENT_DECODER);
}

HubClient::~HubClient ()
{
  soup_session_abort (session_.get ());
  session_ = nullptr;
  g_main_context_pop_thread_default (context_);
  g_main_context_unref (context_);
}

bool
HubClient::is_endpoint (GUri *uri) const
{
  return g_strcmp0 (g_uri_get_scheme (uri), g_uri_get_scheme (endpoint_uri_.get ())) == 0 &&
         g_ascii_strcasecmp (g_uri_get_host (uri), g_uri_get_host (endpoint_uri_.get ())) == 0 &&
         port_of (uri) == port_of (endpoint_uri_.get ());
}

HubFailure
HubClient::failure_of (SoupMessage *message, const std::string &url) const
{
  const unsigned status = soup_message_get_status (message);
  std::string text = url + ": status " + std::to_string (status);
  if (const char *phrase = soup_message_get_reason_phrase (message); phrase && *phrase)
    text += " (" + printable (phrase) + ")";
  if (const std::string reason = header (message, "X-Error-Message"); !reason.empty ())
    text += ", \"" + printable (reason) + "\"";
  const char *with_token = endpoint_.token.empty () ? "set HF_TOKEN to a token of the hub"
                                                    : "the token that is set gives no access";
  if (status == 401)
    text += std::string ("; there is no such repository, or it wants a token: ") + with_token;
  else if (status == 403)
    text += std::string ("; access is refused: accept the model's terms on its page, and ") +
            (endpoint_.token.empty () ? with_token : "use a token that may read it");
  else if (status == 404)
    text += "; there is no such repository, revision or file, or it is private and wants a token (HF_TOKEN)";
  else if (status == 429)
    text += "; the hub wants fewer requests: wait, use --jobs 1, or set HF_TOKEN";
  return {std::move (text), is_passing_status (status), retry_after_s (message)};
}

Ref<SoupMessage>
HubClient::message_for (GUri *uri, const HubRequest &request) const
{
  auto message = Ref<SoupMessage>::adopt (soup_message_new_from_uri ("GET", uri));
  soup_message_add_flags (message.get (), SOUP_MESSAGE_NO_REDIRECT);
  SoupMessageHeaders *headers = soup_message_get_request_headers (message.get ());
  soup_message_headers_replace (headers, "Accept-Encoding", "identity");
  if (!endpoint_.token.empty () && is_endpoint (uri))
    soup_message_headers_replace (headers, "Authorization", ("Bearer " + endpoint_.token).c_str ());
  if (!request.range.empty ())
    soup_message_headers_replace (headers, "Range", request.range.c_str ());
  if (!request.if_range.empty ())
    soup_message_headers_replace (headers, "If-Range", request.if_range.c_str ());
  return message;
}

std::variant<HubResponse, HubFailure>
HubClient::get (const HubRequest &request, GCancellable *cancellable)
{
  Uri uri (g_uri_parse (request.url.c_str (), kUriFlags, nullptr));
  if (!uri || !is_http (uri.get ()))
    return HubFailure{printable (request.url) + ": is no address of http or https"};
  std::string digest;
  for (int redirects = 0; redirects <= kMostRedirects; ++redirects) {
    const auto message = message_for (uri.get (), request);
    const std::string url = without_query (uri.get ());
    GError *error = nullptr;
    auto body =
        Ref<GInputStream>::adopt (soup_session_send (session_.get (), message.get (), cancellable, &error));
    if (!body) {
      HubFailure failure = transfer_failure (error, url);
      g_error_free (error);
      return failure;
    }
    if (digest.empty () && is_endpoint (uri.get ()))
      digest = linked_digest (message.get ());
    const unsigned status = soup_message_get_status (message.get ());
    const std::string location = header (message.get (), "Location");
    if (is_redirect (status) && !location.empty ()) {
      Uri next (g_uri_parse_relative (uri.get (), location.c_str (), kUriFlags, nullptr));
      if (const char *problem = redirect_problem (uri.get (), next.get ()))
        return HubFailure{url + ": redirects to \"" + printable (location.substr (0, location.find ('?'))) +
                          "\", " + problem};
      uri = std::move (next);
      continue;
    }
    if (status != 200 && status != 206 && status != 416)
      return failure_of (message.get (), url);
    HubResponse response = response_of (message.get (), std::move (body));
    response.digest = std::move (digest);
    return response;
  }
  return HubFailure{without_query (uri.get ()) + ": is where more than " + std::to_string (kMostRedirects) +
                    " redirects have led, which is no end; is the address of the hub right?"};
}

std::variant<std::string, HubFailure>
HubClient::read_all (const HubResponse &response, size_t most, GCancellable *cancellable) const
{
  std::string text;
  for (;;) {
    const size_t held = text.size ();
    text.resize (held + kReadBytes);
    GError *error = nullptr;
    const gssize count =
        g_input_stream_read (response.body.get (), text.data () + held, kReadBytes, cancellable, &error);
    if (count < 0) {
      HubFailure failure = transfer_failure (error, response.url);
      g_error_free (error);
      return failure;
    }
    text.resize (held + static_cast<size_t> (count));
    if (count == 0)
      return text;
    if (text.size () > most)
      return HubFailure{response.url + ": the answer has more than " + std::to_string (most >> 20) +
                        " MiB, which no such answer has; is this the address of a hub?"};
  }
}

} // namespace millrace
