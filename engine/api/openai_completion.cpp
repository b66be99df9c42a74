// OpenAI POST /v1/completions
#include "engine/api/dialects.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr int64_t kDefaultMaxTokens = 16; ///< as OpenAI documents it

} // namespace

void
read_openai_completion (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  static constexpr const char *kMaxNames[] = {"max_tokens"};
  read_openai_stream (body, out);
  read_model (body, limits, out.model);
  read_n (body, limits, shared);
  const auto most = static_cast<size_t> (std::max (1, limits.max_generations / shared.n));
  std::vector<std::string> texts;
  const std::vector<std::string> prompts = read_inputs (body, "prompt", most, texts);
  auto max_tokens = read_max_tokens (body, kMaxNames, shared);
  if (!max_tokens) {
    max_tokens = kDefaultMaxTokens;
    shared.add ("max_tokens", kDefaultMaxTokens);
  }
  read_openai_sampling (body, max_tokens, shared);
  if (const auto logprobs = body.integer ("logprobs", 0, kMaxTopLogprobs)) {
    out.logprobs = true;
    shared.add ("logprobs", *logprobs);
  }
  if (const auto best_of = body.integer ("best_of", 1, INT32_MAX); best_of && *best_of != shared.n)
    body.refuse ("best_of", "can only be equal to n: all that is generated is returned");
  if (const auto suffix = body.string ("suffix"); suffix && !suffix->empty ())
    body.refuse ("suffix", "is not available: the model has no fill-in-the-middle");
  if (body.boolean ("echo").value_or (false)) {
    if (out.logprobs)
      body.refuse ("echo", "cannot be given together with logprobs: a prompt's own are not computed");
    if (texts.empty ())
      body.refuse ("echo", "needs prompts of text");
    out.echoes = std::move (texts);
  }
  read_openai_account (body, out);
  body.finish ();
  make_generations (prompts, shared, body, out);
}

} // namespace millrace
