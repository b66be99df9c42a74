// What one render may use, and the failures of templates.
//
// A render installs its Budget for its thread; everything that computes on values charges it through
// spend () and the payloads of value.hpp. Without a budget (while compiling) nothing is charged.
#pragma once

#include "engine/chat/chat_template.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace millrace::jinja
{

/// Nesting that the parser accepts, of blocks and of expressions. Python's own limit on parentheses.
constexpr int kMaxNesting = 200;
constexpr size_t kMaxSourceBytes = 1u << 20;

class Value;

struct Budget {
  RenderLimits limits;
  uint64_t operations = 0;
  size_t bytes = 0; ///< of living values and output
  int depth = 0;
  int64_t now_unix = 0;
  const char *stack_base = nullptr;
  std::vector<Value> namespaces; ///< every one made, see NamespacePayload
};

extern constinit thread_local Budget *active_budget;

/// Throws ChatTemplateError; the render fills in the line.
[[noreturn]] void fail (const std::string &message);
[[noreturn]] void fail_limit (const std::string &message);

/// Counts `operations` evaluated nodes.
void spend (uint64_t operations);
/// Counts `bytes` moved: one operation for every eight.
void spend_bytes (size_t bytes);
void charge_memory (size_t bytes);
void release_memory (size_t bytes) noexcept;

/// One level of nested calls or values; throws when the render's depth or the thread's stack would overflow.
class Nesting
{
public:
  Nesting ();
  ~Nesting ();
  Nesting (const Nesting &) = delete;
  Nesting &operator= (const Nesting &) = delete;
};

/// Throws when this thread's stack is deeper than a render may go.
void check_stack ();

} // namespace millrace::jinja
