// Typed, range-checked access to the fields of a JSON object, with errors that name file and field.
//
// Private to engine/model. null counts as absent, as in transformers. A field of the wrong type or out of
// its range is a LoadError, never a silent default. A JsonFields points into its JsonFile, which must live
// longer; one thread. Fields that stand for those of a file of another format (gguf_config.hpp) have that file's names
// in errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <simdjson.h>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

/// Prefix and name of a field → what it is called in messages.
using FieldNames = std::map<std::string, std::string, std::less<>>;

class JsonFields
{
public:
  /// `prefix` is put before names in errors: "rope_scaling." `names`, if given, must live as long.
  /// Throws LoadError when a name occurs twice.
  JsonFields (std::filesystem::path file, std::string prefix, simdjson::dom::object object,
              const FieldNames *names = nullptr);

  bool has (std::string_view name) const;     ///< present and not null
  bool is_null (std::string_view name) const; ///< present and null

  int integer (std::string_view name, int64_t least, int64_t most) const;
  int integer_or (std::string_view name, int64_t least, int64_t most, int fallback) const;
  /// least ≤ value ≤ most; integers are taken too.
  double number (std::string_view name, double least, double most) const;
  double number_or (std::string_view name, double least, double most, double fallback) const;
  bool boolean_or (std::string_view name, bool fallback) const;
  std::string text (std::string_view name) const;
  std::string text_or (std::string_view name, std::string_view fallback) const;
  std::optional<JsonFields> object (std::string_view name) const; ///< none when absent
  std::vector<std::string> texts (std::string_view name) const;   ///< empty when absent
  /// Each of them least ≤ value ≤ most, which may be infinite; empty when absent.
  std::vector<double> numbers (std::string_view name, double least, double most) const;
  /// One id, an array of ids, or absent (empty); each in [0, limit).
  std::vector<int32_t> token_ids (std::string_view name, int64_t limit) const;
  bool holds_objects () const; ///< some field's value is an object
  struct Field;
  /// All that are not null, in the order of the file.
  std::vector<Field> all () const;
  /// What the field is called in messages: its name, unless it stands for another file's.
  std::string called (std::string_view name) const;

  [[noreturn]] void fail (std::string_view name, const std::string &problem) const;

private:
  std::optional<simdjson::dom::element> find (std::string_view name) const;
  simdjson::dom::element require (std::string_view name) const;
  int64_t checked_integer (std::string_view name, simdjson::dom::element value, int64_t least,
                           int64_t most) const;
  double checked_number (std::string_view name, simdjson::dom::element value, double least,
                         double most) const;

  std::filesystem::path file_;
  std::string prefix_;
  simdjson::dom::object object_;
  const FieldNames *names_;
};

/// A field of any name; neither when it is of another type.
struct JsonFields::Field {
  std::string_view name;
  std::optional<bool> flag;
  std::optional<JsonFields> object;
};

/// A parsed file whose root is an object. Throws LoadError.
class JsonFile
{
public:
  explicit JsonFile (const std::filesystem::path &file);
  JsonFile (const JsonFile &) = delete;
  JsonFile &operator= (const JsonFile &) = delete;

  JsonFields fields () const { return {file_, "", root_}; }

private:
  std::filesystem::path file_;
  simdjson::dom::parser parser_;
  simdjson::dom::object root_;
};

} // namespace millrace
