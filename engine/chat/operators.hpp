// Python's operators on values, with Python's results and error messages.
//
// Integers are 64 bits: a result that does not fit is an error, never a wrong number.
// Source: Python 3.11 language reference, "Expressions" and "Data model".
#pragma once

#include "engine/chat/value.hpp"

namespace millrace::jinja
{

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
  kNegate,
  kPositive
};

Value arithmetic (Operator op, const Value &left, const Value &right);
Value negate (const Value &operand);
Value positive (const Value &operand);
/// The relational operators and `in`.
bool compare (Operator op, const Value &left, const Value &right);
bool equals (const Value &left, const Value &right);
/// `left` < `right` as sorting uses it.
bool less (const Value &left, const Value &right);
bool contains (const Value &container, const Value &item);

/// container[start:stop:step]; none stands for what was left out.
Value slice (const Value &container, const Value &start, const Value &stop, const Value &step);
/// What slice.indices () gives for a sequence of `length`: first index, step and how many.
struct SliceBounds {
  int64_t start, step, count;
};
SliceBounds slice_bounds (const Value &start, const Value &stop, const Value &step, int64_t length);

/// A total order of dict keys in which Python-equal keys are equal.
int compare_keys (const Value &left, const Value &right);
int compare_key (const Value &left, std::string_view right);

/// items in ascending order, stable, by keys[i] < keys[j].
std::vector<Value> sort_by_keys (std::vector<Value> items, const std::vector<Value> &keys, bool descending);

} // namespace millrace::jinja
