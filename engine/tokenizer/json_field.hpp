// Reading JSON with the path of every value at hand, so that each complaint names file and field.
//
// A Field is a view of a simdjson DOM element; it lives as long as the parser does. All getters throw
// LoadError when the value is absent or of another type.
#pragma once

#include "engine/error.hpp"

#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>

namespace millrace
{

class JsonField
{
public:
  JsonField (const std::filesystem::path &file, std::string path, simdjson::dom::element element)
      : file_ (&file)
      , path_ (std::move (path))
      , element_ (element)
  {
  }

  [[noreturn]] void fail (const std::string &problem) const { throw LoadError (*file_, path_, problem); }

  const std::string &path () const { return path_; }
  bool is_null () const { return element_.is_null (); }
  bool is_string () const { return element_.is_string (); }
  bool is_array () const { return element_.is_array (); }

  simdjson::dom::object object () const;
  simdjson::dom::array array () const;
  std::string_view string () const; ///< valid UTF-8
  bool boolean () const;
  int64_t integer (int64_t least, int64_t most) const;

  /// A member of this object; none when absent or null.
  std::optional<JsonField> find (std::string_view key) const;
  /// A member of this object that must be there and not be null.
  JsonField at (std::string_view key) const;
  bool boolean_or (std::string_view key, bool otherwise) const;
  /// The element `index` of this array, which the caller has in hand.
  JsonField item (size_t index, simdjson::dom::element element) const;

private:
  const std::filesystem::path *file_;
  std::string path_;
  simdjson::dom::element element_;
};

} // namespace millrace
