#include "bench/sim_machine.hpp"

#include <string>

namespace millrace::sim
{

namespace
{

constexpr int kAloneChunk = 512;

StepWork
chunk_after (int position, int tokens)
{
  return {.prefill_tokens = tokens, .prefill_positions = tokens * (position + 0.5 * tokens)};
}

} // namespace

Machine
Machine::named (std::string_view name)
{
  if (name == "cpu")
    return {};
  if (name == "fast")
    return {.pass_ms = 7.9,
            .scored_token_ms = 0.1,
            .prefill_token_ms = 0.05,
            .scored_attention_ms = 0.02,
            .prefill_attention_ms = 0.005,
            .kv_tokens = 524'288,
            .ttft_target_ms = 500,
            .itl_target_ms = 30};
  throw std::invalid_argument ("no machine " + std::string (name) + ": cpu or fast");
}

double
Machine::step_ms (const StepWork &work) const
{
  double ms = 0;
  if (work.scored_tokens > 0)
    ms += pass_ms + scored_token_ms * work.scored_tokens + scored_attention_ms * work.scored_positions / 1024;
  if (work.prefill_tokens > 0)
    ms += (one_pass && ms > 0 ? 0 : pass_ms) + prefill_token_ms * work.prefill_tokens +
          prefill_attention_ms * work.prefill_positions / 1024;
  return ms;
}

double
Machine::noisy_step_ms (const StepWork &work, Random &random) const
{
  double ms = step_ms (work) * std::exp (noise * random.normal ());
  if (random.uniform () < hiccup_rate)
    ms *= 3 + 7 * random.uniform ();
  return ms;
}

double
Machine::alone_ms (int cached, int computed, int answer) const
{
  double ms = 0;
  for (int done = 0; done < computed; done += kAloneChunk)
    ms += step_ms (chunk_after (cached + done, std::min (kAloneChunk, computed - done)));
  const double positions = cached + computed + 0.5 * answer;
  return ms + answer * step_ms ({.scored_tokens = 1, .scored_positions = positions});
}

double
Machine::share_ms (int cached, int computed, int answer, double batch) const
{
  return alone_ms (cached, computed, answer) - answer * pass_ms * (1 - 1 / batch);
}

} // namespace millrace::sim
