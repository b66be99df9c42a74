// A macro, or the body of a call block, as a value.
#pragma once

#include "engine/chat/value.hpp"

namespace millrace::jinja
{

struct Macro;
struct Frame;

struct MacroPayload : Payload {
  MacroPayload (const Macro &macro, Frame *closure)
      : Payload (Kind::kMacro)
      , macro (macro)
      , closure (closure)
  {
  }

  const Macro &macro;
  Frame *closure; ///< kept by the render until it ends
};

/// name, arguments, catch_kwargs, catch_varargs, caller; missing for others.
Value macro_attribute (const Value &macro, std::string_view name);

} // namespace millrace::jinja
