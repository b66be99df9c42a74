// The properties of llmhttpsrc. Under the element's OBJECT_LOCK.
#pragma once

#include "elements/http/http_service.hpp"

#include <glib-object.h>

namespace millrace
{

struct HttpSourceSettings {
  HttpServiceSettings service;
  std::string api_key, api_key_file, cors_origins, model_names;
  int max_pending = 256; ///< requests between the server and the pipeline
};

/// Installs the properties with ids from `first` on.
void install_http_properties (GObjectClass *klass, guint first);
/// False for an unknown id.
bool set_http_property (HttpSourceSettings &settings, guint first, guint id, const GValue *value);
bool get_http_property (const HttpSourceSettings &settings, guint first, guint id, GValue *value);

/// What the service gets: lists split, keys read, names filled in. Throws LoadError.
HttpServiceSettings resolve (const HttpSourceSettings &settings, const std::string &default_model_name);

} // namespace millrace
