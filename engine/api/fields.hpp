// Typed reading of a body's members: what is wrong is said with the field's path, and the first mistake counts.
#pragma once

#include "engine/api/api_types.hpp"
#include "engine/scheduling/json_values.hpp"

#include <simdjson.h>

#include <optional>
#include <span>

namespace millrace
{

using JsonValue = simdjson::dom::element;

constexpr size_t kMaxApiNesting = 64;
/// Anthropic's, Ollama's and Responses' shapes grow by a level when they become a template's; the result has the limit.
constexpr size_t kMaxReshapedNesting = kMaxApiNesting - 2;

/// A JSON text and its values, which live as long.
class JsonDocument
{
public:
  JsonDocument ();
  ApiError parse (std::string_view text, size_t max_nesting);
  const JsonValue &root () const { return root_; }

private:
  simdjson::dom::parser parser_;
  JsonValue root_;
};

/// As compact JSON, numbers and the order of members kept.
std::string json_text (const JsonValue &value);
/// Of an object whose keys are free: the first that is there twice.
std::optional<std::string_view> duplicate_key (const simdjson::dom::object &object);

/// The members of an object with known names. Each is taken by name; null is the same as not given. After the first
/// error, which goes to `error`, nothing is read any more. finish () refuses what nobody took.
class Fields
{
public:
  /// `path` comes before the names in messages: "options", "messages[2]"; empty for a body.
  Fields (const JsonValue &value, std::string path, ApiError &error);

  bool failed () const { return static_cast<bool> (*error_); }
  ApiError &error () const { return *error_; }
  const std::string &path () const { return path_; }
  std::string path_of (std::string_view name) const;
  void refuse (std::string_view name, std::string_view problem) const;
  void finish ();

  bool has (std::string_view name) const;
  std::optional<JsonValue> take (std::string_view name);
  std::optional<bool> boolean (std::string_view name);
  std::optional<int64_t> integer (std::string_view name, int64_t low, int64_t high);
  std::optional<double> number (std::string_view name, double low, double high);
  std::optional<std::string_view> string (std::string_view name);
  std::optional<simdjson::dom::array> array (std::string_view name, size_t most);
  std::optional<simdjson::dom::object> free_object (std::string_view name);
  /// An object with known names in turn.
  std::optional<Fields> object (std::string_view name);
  /// One of `words`, else it is refused.
  std::optional<std::string_view> word (std::string_view name, std::span<const std::string_view> words);
  /// For what must be there.
  std::string_view required_string (std::string_view name);
  /// Takes it, and refuses it when it is there: "is not available", "needs …".
  void unavailable (std::string_view name, std::string_view problem);
  /// A boolean that may only have this value.
  void only (std::string_view name, bool value, std::string_view problem);

  void wrong_type (std::string_view name, std::string_view wanted, const JsonValue &value) const;

private:
  struct Member {
    std::string_view name;
    JsonValue value;
    bool taken = false;
  };
  std::vector<Member> members_;
  std::string path_;
  ApiError *error_;
};

} // namespace millrace
