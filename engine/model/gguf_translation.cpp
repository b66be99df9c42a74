// Metadata of a GGUF file on their way to a config.json.
#include "engine/model/gguf_translation.hpp"

#include "engine/json_text.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace millrace
{

namespace
{

constexpr int kMaxLayers = 1024;
constexpr const char *kLayers = "block_count", *kDraftingLayers = "nextn_predict_layers";

std::string
to_text (double value)
{
  char text[32];
  std::snprintf (text, sizeof text, "%.17g", value);
  return text;
}

} // namespace

int64_t
GgufTranslation::integer (const char *name, int64_t least, int64_t most) const
{
  return fields_.integer (key (name), least, most);
}

int64_t
GgufTranslation::integer_or (const char *name, int64_t least, int64_t most, int64_t fallback) const
{
  return fields_.integer_or (key (name), least, most, fallback);
}

int
GgufTranslation::layers () const
{
  const int64_t all = integer (kLayers, 1, kMaxLayers);
  return static_cast<int> (all - integer_or (kDraftingLayers, 0, all - 1, 0));
}

std::vector<int>
GgufTranslation::per_layer (const char *name, int64_t most) const
{
  const std::string full = key (name);
  const auto count = static_cast<size_t> (layers ());
  const GgufValue *value = fields_.find (full);
  if (!value || value->type != GgufType::kArray)
    return std::vector<int> (count, static_cast<int> (fields_.integer (full, 0, most)));
  std::vector<int> values = fields_.integers (full);
  if (values.size () < count)
    fields_.fail (full, "has " + std::to_string (values.size ()) + " entries for " + key (kLayers) + " " +
                            std::to_string (count) + "; fetch the file again");
  values.resize (count);
  for (const int entry : values)
    if (entry < 0 || entry > most)
      fields_.fail (full, "holds " + std::to_string (entry) + ", expected integers from 0 to " +
                              std::to_string (most) + "; fetch the file again");
  return values;
}

bool
GgufTranslation::layer_holds (int layer, const std::string &tensor) const
{
  return weights_.contains ("blk." + std::to_string (layer) + "." + tensor);
}

/// The value as JSON. Of an array only that it is one matters where its numbers differ, as nothing is read from it.
std::string
GgufTranslation::json_of (const std::string &key, const GgufValue &value) const
{
  int64_t integer = 0;
  double real = 0;
  std::string text;
  if (value.type == GgufType::kArray) {
    const size_t width = value.element == GgufType::kString ? 0 : gguf_type_bytes (value.element);
    for (size_t i = 0; i < value.count && width > 0; ++i) {
      int64_t entry = 0;
      if (!gguf_integer (value.element, value.bytes.subspan (i * width, width), entry) ||
          (i > 0 && entry != integer))
        return "[]";
      integer = entry;
    }
    return value.count > 0 && width > 0 ? std::to_string (integer) : "[]";
  }
  if (value.type == GgufType::kString)
    append_json_string (text, printable (value.text));
  else if (value.type == GgufType::kBool)
    text = GgufFields::shown (value);
  else if (gguf_integer (value.type, value.bytes, integer))
    text = std::to_string (integer);
  else if (gguf_number (value.type, value.bytes, real) && std::isfinite (real))
    text = to_text (real);
  else
    fields_.fail (key,
                  "is " + GgufFields::shown (value) + ", expected a finite number; fetch the file again");
  return text;
}

void
GgufTranslation::copy (const char *name, const char *key_name)
{
  const std::string full = key (key_name);
  names_.emplace (prefix_ + name, full); // what is missing has that name in messages too
  if (const GgufValue *value = fields_.find (full))
    member (name, json_of (full, *value), full);
}

void
GgufTranslation::number (const char *name, double value, const char *key_name)
{
  member (name, to_text (value), key (key_name));
}

void
GgufTranslation::flag (const char *name, bool value, const char *key_name)
{
  member (name, value ? "true" : "false", key (key_name));
}

void
GgufTranslation::text (const char *name, std::string_view value, const char *key_name)
{
  std::string json;
  append_json_string (json, printable (value));
  member (name, json, key (key_name));
}

void
GgufTranslation::texts (const char *name, const std::vector<std::string> &values, const char *key_name)
{
  std::string json;
  for (const std::string &value : values) {
    json += json.empty () ? "[" : ",";
    append_json_string (json, value);
  }
  member (name, json + "]", key (key_name));
}

void
GgufTranslation::object (const char *name, const std::function<void ()> &write)
{
  std::string outer = std::move (json_);
  const std::string prefix = prefix_;
  json_.clear ();
  prefix_ += std::string (name) + ".";
  write ();
  json_ = std::move (outer) + ",\"" + name + "\":" + json ();
  prefix_ = prefix;
}

void
GgufTranslation::layer_types (const char *key_name, const char *kind, int interval)
{
  const int count = layers ();
  std::vector<bool> of_kind;
  const GgufValue *value = fields_.find (key (key_name));
  if (value && value->type == GgufType::kArray) {
    for (const int entry : per_layer (key_name, 1))
      of_kind.push_back (entry != 0);
  } else {
    interval = static_cast<int> (integer_or (key_name, 1, kMaxLayers, interval));
    for (int i = 0; i < count && interval > 0; ++i)
      of_kind.push_back ((i + 1) % interval != 0);
  }
  std::vector<std::string> types;
  for (const bool is_kind : of_kind)
    types.emplace_back (is_kind ? kind : "full_attention");
  if (!types.empty ())
    texts ("layer_types", types, key_name);
}

void
GgufTranslation::member (const char *name, const std::string &json, const std::string &source)
{
  if (!written_.insert (prefix_ + name).second)
    return;
  names_[prefix_ + name] = source;
  json_ += std::string (",\"") + name + "\":" + json;
}

} // namespace millrace
