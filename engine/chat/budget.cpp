#include "engine/chat/value.hpp"

namespace millrace::jinja
{

constinit thread_local Budget *active_budget = nullptr;

/// Threads have 8 MiB by default; a caller below us may have used some of it.
constexpr ptrdiff_t kStackBytes = 3 << 20;

void
fail (const std::string &message)
{
  throw ChatTemplateError (ChatTemplateError::Kind::kRuntime, 0, message);
}

void
fail_limit (const std::string &message)
{
  throw ChatTemplateError (ChatTemplateError::Kind::kLimit, 0, message);
}

void
spend (uint64_t operations)
{
  Budget *budget = active_budget;
  if (!budget)
    return;
  const uint64_t left = budget->limits.operations - budget->operations;
  if (operations > left) {
    budget->operations = budget->limits.operations;
    fail_limit ("the template needs more than " + std::to_string (budget->limits.operations) +
                " operations; it may be looping, or the conversation is too long for it");
  }
  budget->operations += operations;
}

void
spend_bytes (size_t bytes)
{
  spend (1 + bytes / 8);
}

void
charge_memory (size_t bytes)
{
  Budget *budget = active_budget;
  if (!budget)
    return;
  if (bytes > budget->limits.memory_bytes || budget->bytes > budget->limits.memory_bytes - bytes)
    fail_limit ("the template needs more than " + std::to_string (budget->limits.memory_bytes) +
                " bytes of memory");
  budget->bytes += bytes;
}

void
release_memory (size_t bytes) noexcept
{
  if (active_budget)
    active_budget->bytes -= bytes < active_budget->bytes ? bytes : active_budget->bytes;
}

Nesting::Nesting ()
{
  check_stack ();
  if (active_budget && ++active_budget->depth > active_budget->limits.depth) {
    active_budget->depth--;
    fail_limit ("the template nests calls or values more than " +
                std::to_string (active_budget->limits.depth) + " deep");
  }
}

Nesting::~Nesting ()
{
  if (active_budget)
    active_budget->depth--;
}

void
check_stack ()
{
  if (!active_budget || !active_budget->stack_base)
    return;
  const auto *here = static_cast<const char *> (__builtin_frame_address (0));
  const ptrdiff_t used = active_budget->stack_base - here;
  if (used > kStackBytes || used < -kStackBytes)
    fail_limit ("the template nests calls and blocks too deeply");
}

} // namespace millrace::jinja
