#include "elements/http/http_settings.hpp"

#include <gst/gst.h>

#include <cstdlib>

namespace millrace
{

namespace
{

constexpr auto kReady =
    static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);

struct StringProperty {
  const char *name, *nick, *blurb;
  std::string &(*member) (HttpSourceSettings &);
  bool secret;
};

struct IntProperty {
  const char *name, *nick, *blurb;
  int low, high;
  int &(*member) (HttpSourceSettings &);
};

struct BoolProperty {
  const char *name, *nick, *blurb;
  bool &(*member) (HttpSourceSettings &);
};

using S = HttpSourceSettings;

const StringProperty kStrings[] = {
    {"address", "Address", "IP address to listen on: 127.0.0.1 is this machine alone, 0.0.0.0 all networks",
     [] (S &s) -> std::string & { return s.service.server.address; }, false},
    {"tls-certificate", "TLS certificate", "PEM file of the certificate chain; unset: plain HTTP",
     [] (S &s) -> std::string & { return s.service.server.tls_certificate; }, false},
    {"tls-key", "TLS key", "PEM file of the private key; unset: in the certificate's file",
     [] (S &s) -> std::string & { return s.service.server.tls_key; }, false},
    {"api-key", "API key",
     "Keys that callers may use, separated by commas; unset: $MILLRACE_API_KEY, or no key is needed",
     [] (S &s) -> std::string & { return s.api_key; }, true},
    {"api-key-file", "API key file", "File with further keys, one a line",
     [] (S &s) -> std::string & { return s.api_key_file; }, false},
    {"cors-origins", "CORS origins",
     "Origins whose pages may call, separated by commas, such as http://localhost:3000; * is all; unset: "
     "none",
     [] (S &s) -> std::string & { return s.cors_origins; }, false},
    {"model-names", "Model names",
     "Names that the field \"model\" of a request may have, separated by commas, the first for answers; * "
     "among "
     "them: any; unset: the name of the model's folder",
     [] (S &s) -> std::string & { return s.model_names; }, false},
};

const IntProperty kInts[] = {
    {"port", "Port", "TCP port; 0: any that is free, see bound-port", 0, 65535,
     [] (S &s) -> int & { return s.service.server.port; }},
    {"max-connections", "Maximum connections", "Connections at a time; more are refused with 503", 1, 1000000,
     [] (S &s) -> int & { return s.service.server.max_connections; }},
    {"max-pending", "Maximum pending",
     "Generations that wait between the server and the scheduler; more are refused with 429", 1, 1000000,
     [] (S &s) -> int & { return s.max_pending; }},
    {"header-timeout", "Header timeout", "Milliseconds for a request's headers to arrive", 1, G_MAXINT,
     [] (S &s) -> int & { return s.service.server.header_timeout_ms; }},
    {"body-timeout", "Body timeout", "Milliseconds for a request's body to arrive", 1, G_MAXINT,
     [] (S &s) -> int & { return s.service.server.body_timeout_ms; }},
    {"idle-timeout", "Idle timeout", "Milliseconds that a connection may be idle between requests", 1,
     G_MAXINT, [] (S &s) -> int & { return s.service.server.idle_timeout_ms; }},
    {"slow-client-timeout", "Slow client timeout",
     "Milliseconds after which a stream ends whose client takes nothing of what waits for it", 1, G_MAXINT,
     [] (S &s) -> int & { return s.service.generation.slow_client_timeout_ms; }},
    {"requests-per-minute", "Requests per minute",
     "Generation requests of one key (or address, without keys) in a minute; 0: any number", 0, G_MAXINT,
     [] (S &s) -> int & { return s.service.access.requests_per_minute; }},
    {"max-concurrent", "Maximum concurrent",
     "Generation requests of one key (or address, without keys) at a time; 0: any number", 0, G_MAXINT,
     [] (S &s) -> int & { return s.service.access.max_concurrent; }},
};

const BoolProperty kBools[] = {
    {"log-requests", "Log requests", "Write a line of JSON to standard error for each request",
     [] (S &s) -> bool & { return s.service.log_requests; }},
    {"log-bodies", "Log bodies", "With log-requests: with the bodies of the requests, prompts and all",
     [] (S &s) -> bool & { return s.service.log_bodies; }},
};

// After those above.
enum { SIZE_MAX_BODY, SIZE_BUFFER, SIZE_COUNT };
constexpr guint kStringCount = G_N_ELEMENTS (kStrings), kIntCount = G_N_ELEMENTS (kInts),
                kBoolCount = G_N_ELEMENTS (kBools);

size_t &
size_member (HttpSourceSettings &settings, guint which)
{
  return which == SIZE_MAX_BODY ? settings.service.server.max_body_bytes
                                : settings.service.generation.buffer_bytes;
}

std::vector<std::string>
split (const std::string &list)
{
  std::vector<std::string> parts;
  g_auto (GStrv) pieces = g_strsplit (list.c_str (), ",", -1);
  for (char **piece = pieces; *piece; piece++) {
    g_strstrip (*piece);
    if (**piece)
      parts.emplace_back (*piece);
  }
  return parts;
}

} // namespace

void
install_http_properties (GObjectClass *klass, guint first)
{
  const HttpSourceSettings defaults;
  auto &values = const_cast<HttpSourceSettings &> (defaults);
  guint id = first;
  for (const auto &property : kStrings) {
    const std::string &value = property.member (values);
    g_object_class_install_property (klass, id++,
                                     g_param_spec_string (property.name, property.nick, property.blurb,
                                                          value.empty () ? nullptr : value.c_str (), kReady));
  }
  for (const auto &property : kInts)
    g_object_class_install_property (klass, id++,
                                     g_param_spec_int (property.name, property.nick, property.blurb,
                                                       property.low, property.high, property.member (values),
                                                       kReady));
  for (const auto &property : kBools)
    g_object_class_install_property (klass, id++,
                                     g_param_spec_boolean (property.name, property.nick, property.blurb,
                                                           property.member (values), kReady));
  g_object_class_install_property (klass, id++,
                                   g_param_spec_uint64 ("max-body-size", "Maximum body size",
                                                        "Bytes of a request's body at most", 1, G_MAXINT64,
                                                        size_member (values, SIZE_MAX_BODY), kReady));
  g_object_class_install_property (
      klass, id++,
      g_param_spec_uint64 (
          "client-buffer", "Client buffer",
          "Bytes of a stream that may wait for a slow client; with more its generation pauses", 1, G_MAXINT64,
          size_member (values, SIZE_BUFFER), kReady));
}

bool
set_http_property (HttpSourceSettings &settings, guint first, guint id, const GValue *value)
{
  guint index = id - first;
  if (index < kStringCount) {
    const char *text = g_value_get_string (value);
    kStrings[index].member (settings) = text ? text : "";
    return true;
  }
  if ((index -= kStringCount) < kIntCount) {
    kInts[index].member (settings) = g_value_get_int (value);
    return true;
  }
  if ((index -= kIntCount) < kBoolCount) {
    kBools[index].member (settings) = g_value_get_boolean (value);
    return true;
  }
  if ((index -= kBoolCount) < SIZE_COUNT) {
    size_member (settings, index) = g_value_get_uint64 (value);
    return true;
  }
  return false;
}

bool
get_http_property (const HttpSourceSettings &settings, guint first, guint id, GValue *value)
{
  auto &values = const_cast<HttpSourceSettings &> (settings);
  guint index = id - first;
  if (index < kStringCount) {
    const std::string &text = kStrings[index].member (values);
    // A key that went in does not come out: whoever may look at an element need not know it.
    g_value_set_string (value, text.empty () ? nullptr : kStrings[index].secret ? "***" : text.c_str ());
    return true;
  }
  if ((index -= kStringCount) < kIntCount) {
    g_value_set_int (value, kInts[index].member (values));
    return true;
  }
  if ((index -= kIntCount) < kBoolCount) {
    g_value_set_boolean (value, kBools[index].member (values));
    return true;
  }
  if ((index -= kBoolCount) < SIZE_COUNT) {
    g_value_set_uint64 (value, size_member (values, index));
    return true;
  }
  return false;
}

HttpServiceSettings
resolve (const HttpSourceSettings &settings, const std::string &default_model_name)
{
  HttpServiceSettings service = settings.service;
  const char *from_environment = std::getenv ("MILLRACE_API_KEY");
  service.access.api_keys =
      split (settings.api_key.empty () && from_environment ? from_environment : settings.api_key);
  if (!settings.api_key_file.empty ()) {
    for (auto &key : HttpAccess::read_keys (settings.api_key_file))
      service.access.api_keys.push_back (std::move (key));
  }
  service.access.cors_origins = split (settings.cors_origins);
  service.model_names = split (settings.model_names);
  if (service.model_names.empty () || service.model_names.front () == "*")
    service.model_names.insert (service.model_names.begin (), default_model_name);
  return service;
}

} // namespace millrace
