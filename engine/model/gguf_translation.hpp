// Metadata of a GGUF file on their way to a config.json: its members one by one, and which key each comes from.
//
// Private to engine/model. A member that is there already is not written again, so that what an architecture says of its own
// (gguf_families.cpp) comes first and what all have in common after it. Throws LoadError.
#pragma once

#include "engine/model/json_fields.hpp"
#include "engine/weights/gguf_fields.hpp"
#include "engine/weights/weight_files.hpp"

#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class GgufTranslation
{
public:
  GgufTranslation (const GgufFields &fields, const WeightFiles &weights, std::string architecture)
      : fields_ (fields)
      , weights_ (weights)
      , architecture_ (std::move (architecture))
  {
  }

  const GgufFields &fields () const { return fields_; }
  const WeightFiles &weights () const { return weights_; }
  std::string key (const char *name) const { return architecture_ + "." + name; }
  bool has (const char *name) const { return fields_.has (key (name)); }
  int64_t integer (const char *name, int64_t least, int64_t most) const;
  int64_t integer_or (const char *name, int64_t least, int64_t most, int64_t fallback) const;
  /// Layers that text is generated with: those behind them draft several tokens at once.
  int layers () const;
  /// One value for each layer, from an array or a number for all.
  std::vector<int> per_layer (const char *name, int64_t most) const;
  /// Whether some layer has such a tensor: "attn_q.weight".
  bool layer_holds (int layer, const std::string &tensor) const;

  /// The value as it is, where there is one; an array of equal numbers is that number.
  void copy (const char *name, const char *key_name);
  void number (const char *name, double value, const char *key_name);
  void flag (const char *name, bool value, const char *key_name);
  void text (const char *name, std::string_view value, const char *key_name);
  /// An object of the members that `write` writes.
  void object (const char *name, const std::function<void ()> &write);
  void texts (const char *name, const std::vector<std::string> &values, const char *key_name);
  /// layer_types: `kind` or full_attention, by an array of true and false, a number n (every n-th layer is full) or, where the
  /// key is absent, `interval` likewise; 0: then no layer_types.
  void layer_types (const char *key_name, const char *kind, int interval);
  /// Of a JSON value, that messages say to be from `source`: a key or a tensor.
  void member (const char *name, const std::string &json, const std::string &source);

  /// Whether there is such a member by now.
  bool holds (const char *name) const { return written_.contains (prefix_ + name); }
  std::string json () const { return "{" + json_.substr (json_.empty () ? 0 : 1) + "}"; }
  const FieldNames &names () const { return names_; }

private:
  std::string json_of (const std::string &key, const GgufValue &value) const;

  const GgufFields &fields_;
  const WeightFiles &weights_;
  std::string architecture_;
  std::string json_;   ///< members, a comma before each
  std::string prefix_; ///< of names in a nested object
  FieldNames names_;
  std::set<std::string> written_; ///< members, with their prefixes
};

} // namespace millrace
