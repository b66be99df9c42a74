#include "engine/chat/chat_template.hpp"

#include "engine/chat/parser.hpp"
#include "engine/chat/render.hpp"

#include <algorithm>
#include <new>

namespace millrace
{

/// Payloads count their nesting in sixteen bits, and the stack holds this many levels.
constexpr int kMostDepth = 1000;

struct ChatTemplate::State {
  std::unique_ptr<const jinja::Template> compiled;
};

ChatTemplate::ChatTemplate ()
    : state_ (std::make_unique<State> ())
{
}
ChatTemplate::~ChatTemplate () = default;

std::shared_ptr<const ChatTemplate>
ChatTemplate::compile (std::string_view source)
{
  std::shared_ptr<ChatTemplate> result (new ChatTemplate);
  result->state_->compiled = jinja::compile_template (source);
  return result;
}

std::string
ChatTemplate::render (std::string_view variables_json, int64_t now_unix, const RenderLimits &limits) const
{
  jinja::Budget budget;
  budget.limits = limits;
  budget.limits.depth = std::clamp (limits.depth, 1, kMostDepth);
  budget.now_unix = now_unix;
  budget.stack_base = static_cast<const char *> (__builtin_frame_address (0));
  struct Install {
    explicit Install (jinja::Budget *budget)
        : outer (std::exchange (jinja::active_budget, budget))
    {
    }
    ~Install () { jinja::active_budget = outer; }
    jinja::Budget *outer;
  } install (&budget);
  try {
    return jinja::render_template (*state_->compiled, variables_json);
  } catch (const std::bad_alloc &) {
    throw ChatTemplateError (ChatTemplateError::Kind::kLimit, 0, "not enough memory to render the template");
  } catch (const std::length_error &) {
    throw ChatTemplateError (ChatTemplateError::Kind::kLimit, 0, "a value of the template is too long");
  }
}

} // namespace millrace
