// Arguments of a call, and how functions read them as Python binds parameters.
#pragma once

#include "engine/chat/value.hpp"

#include <array>
#include <initializer_list>

namespace millrace::jinja
{

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

/// The arguments of a function with named parameters. Throws TypeError's messages when they do not fit.
class Parameters
{
public:
  /// `positional_only`: names are for messages and may not be used as keywords (str's methods).
  Parameters (const char *function, const Arguments &arguments, std::initializer_list<const char *> names,
              size_t required = 0, bool positional_only = false);

  bool has (size_t index) const { return values_[index] != nullptr; }
  /// The argument, or none when it was not given.
  const Value &operator[] (size_t index) const { return values_[index] ? *values_[index] : none_; }
  bool flag (size_t index, bool otherwise) const
  {
    return has (index) ? is_true (*values_[index]) : otherwise;
  }
  int64_t integer (size_t index, int64_t otherwise) const;
  /// Throws when it is not a string.
  const std::string &text (size_t index) const;

private:
  static constexpr size_t kMost = 6;
  const char *function_;
  std::array<const Value *, kMost> values_{};
  Value none_;
};

} // namespace millrace::jinja
