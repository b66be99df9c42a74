// The `loop` variable of a for statement (Jinja's LoopContext), and what values know about macros.
//
// Looks one item ahead only when asked to, as the reference does: a loop's filter may depend on what its
// body assigned. Belongs to one render; when the loop ends it lets go of everything but its numbers.
#pragma once

#include "engine/chat/value.hpp"

namespace millrace::jinja
{

struct For;
struct Frame;

struct LoopPayload : Payload {
  LoopPayload (const Value &iterable, int depth0);
  /// Moves on to the next item.
  bool advance (Value &item);
  /// loop.length; an iterable without a length is read to its end.
  int64_t total ();
  /// The next item without moving on; missing at the end.
  const Value &peek ();
  /// Forgets the items.
  void finish ();

  Value iterable;
  Value iterator;
  Value after = Value::missing ();
  Value current = Value::missing ();
  Value before = Value::missing ();
  std::vector<Value> last_changed;
  bool has_changed = false; ///< last_changed was set
  int64_t index0 = -1;
  int64_t length = -1;
  int depth0;
  const For *statement = nullptr; ///< of a recursive loop
  Frame *closure = nullptr;
};

/// "<Macro 'name'>"
std::string describe_macro (const Value &macro);

} // namespace millrace::jinja
