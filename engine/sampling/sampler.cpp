#include "engine/sampling/sampler.hpp"

#include "engine/sampling/draw.hpp"
#include "engine/sampling/logits_scan.hpp"
#include "engine/sampling/philox.hpp"
#include "engine/step.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millrace
{

namespace
{

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity ();

bool
has_penalties (const SamplingParams &params)
{
  return params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0;
}

bool
masks_stop_ids (const SamplingParams &params, uint64_t position)
{
  return params.min_tokens > 0 && position < static_cast<uint64_t> (params.min_tokens);
}

/// A finite result stays finite: a tiny repetition penalty must not make +inf of a logit.
float
to_logit (double value)
{
  constexpr double kLargest = std::numeric_limits<float>::max ();
  return static_cast<float> (std::clamp (value, -kLargest, kLargest));
}

/// Steps 2 to 4 of the header.
void
edit_logits (std::span<float> logits, const SamplingParams &params, const TokenCounts &counts,
             std::span<const TokenId> stop_ids, uint64_t position)
{
  const auto in_row = [&] (TokenId token) {
    return token >= 0 && static_cast<size_t> (token) < logits.size ();
  };

  for (const auto &[token, bias] : params.logit_bias) {
    if (in_row (token))
      logits[token] = bias <= -100 ? kMinusInfinity : logits[token] + bias;
  }
  if (has_penalties (params)) {
    counts.for_each ([&] (const TokenCount &count) {
      if (!in_row (count.token) || logits[count.token] == kMinusInfinity)
        return;
      const double logit = logits[count.token], penalty = params.repetition_penalty;
      float edited = to_logit (logit > 0 ? logit / penalty : logit * penalty);
      if (count.generated > 0)
        edited = to_logit (edited - (params.presence_penalty + params.frequency_penalty * count.generated));
      logits[count.token] = edited;
    });
  }
  if (masks_stop_ids (params, position)) {
    for (const TokenId token : stop_ids) {
      if (in_row (token))
        logits[token] = kMinusInfinity;
    }
  }
}

/// The softmax of a row with +inf in the limit: those tokens share everything.
void
flatten_infinities (std::span<float> logits)
{
  for (float &logit : logits)
    logit = logit == std::numeric_limits<float>::infinity () ? 0 : kMinusInfinity;
}

void
report_logprobs (std::span<const float> raw, float max, int count, std::vector<Candidate> &scratch,
                 SampledToken &sampled, std::vector<TokenLogprob> &top)
{
  const double log_sum = std::log (sum_exp (raw, max));
  const auto logprob = [&] (float logit) {
    return static_cast<float> (static_cast<double> (logit) - max - log_sum);
  };

  sampled.logprob = logprob (raw[static_cast<size_t> (sampled.token)]);
  sampled.top_begin = static_cast<int> (top.size ());
  select_top (raw, static_cast<size_t> (count), scratch);
  for (const Candidate &candidate : scratch)
    top.push_back ({candidate.token, logprob (candidate.value)});
  sampled.top_count = static_cast<int> (scratch.size ());
}

/// Why a row of logits gave no token.
const char *
describe_failure (std::span<const float> logits)
{
  return std::any_of (logits.begin (), logits.end (), [] (float logit) { return std::isnan (logit); })
             ? "the model produced NaN logits"
             : "no token is left to choose from: each is banned or has probability 0";
}

/// Each draft that was right has saved a step; the last token of a row takes one anyway.
void
note_draft (Row &row, int right)
{
  DraftStatistics &statistics = row.sequence->request->statistics.drafting;
  statistics.count (row.draft, right);
  statistics.verifying_us += row.verifying_us;
  const int saved_steps = std::min (right, row.accepted_count - 1);
  statistics.saved_us += saved_steps * row.direct_us - row.verifying_us;
}

/// For whoever tells the request's statistics before the step is committed.
void
stamp_times (Step &step)
{
  const int64_t now = step.clock ();
  for (Row &row : step.rows) {
    RequestStatistics &statistics = row.sequence->request->statistics;
    if (row.accepted_count > 0 && statistics.first_token_us == 0)
      statistics.first_token_us = now - row.sequence->submitted_us;
    if (row.ended ())
      statistics.total_us = now - row.sequence->submitted_us;
  }
}

} // namespace

SampledToken
Sampler::sample (std::span<float> logits, const SamplingParams &params, const TokenCounts &counts,
                 std::span<const TokenId> stop_ids, uint64_t position, std::vector<TokenLogprob> &top)
{
  Candidate peak = find_peak (logits);
  if (peak.token < 0)
    return {};

  const bool edits =
      !params.logit_bias.empty () || has_penalties (params) || masks_stop_ids (params, position);
  const bool reports = params.logprobs >= 0;
  SampledToken sampled;
  if (!edits && !reports && params.temperature == 0) {
    sampled.token = peak.token;
    return sampled;
  }

  // All of it at once for this vocabulary, so that no later parameters make it grow; untouched pages cost
  // nothing.
  candidates_.reserve (logits.size ());
  masses_.reserve (std::max<size_t> (logits.size (), 1024));
  if (peak.value == std::numeric_limits<float>::infinity ()) {
    flatten_infinities (logits);
    peak.value = 0;
  }
  std::span<const float> raw = logits;
  const float raw_max = peak.value;
  if (edits) {
    if (reports) {
      raw_.assign (logits.begin (), logits.end ());
      raw = raw_;
    }
    edit_logits (logits, params, counts, stop_ids, position);
    peak = find_peak (logits);
    if (peak.token < 0)
      return {};
  }

  sampled.token =
      params.temperature == 0
          ? peak.token
          : draw_token (logits, peak.value, params, uniform (params.seed, position, 0), candidates_, masses_);
  if (reports)
    report_logprobs (raw, raw_max, params.logprobs, candidates_, sampled, top);
  return sampled;
}

void
Sampler::sample (Step &step)
{
  step.top_logprobs.clear ();
  for (Row &row : step.rows) {
    if (row.scored && !row.ended () && row.logits)
      sample_row (step, row);
  }
  stamp_times (step);
}

void
Sampler::sample_row (Step &step, Row &row)
{
  Sequence &sequence = *row.sequence;
  Request &request = *sequence.request;
  const SamplingParams &params = request.sampling;
  const int generated = sequence.generated ();
  const int length = static_cast<int> (sequence.tokens.size ());
  const bool counts_tokens = has_penalties (params);

  row.accepted_count = 0;
  int right = 0;
  for (int i = 0; i <= row.draft.count; ++i) {
    const std::span<float> logits (row.logits + static_cast<size_t> (i) * static_cast<size_t> (step.vocab),
                                   static_cast<size_t> (step.vocab));
    const SampledToken sampled = sample (logits, params, sequence.counts, sequence.stop_ids,
                                         static_cast<uint64_t> (generated + i), step.top_logprobs);
    if (sampled.token < 0) {
      row.fail ("internal", describe_failure (logits));
      break;
    }
    row.accepted[static_cast<size_t> (row.accepted_count++)] = sampled;
    if (counts_tokens)
      sequence.counts.add_generated (sampled.token);

    const bool is_draft = i < row.draft.count && sampled.token == row.draft.tokens[static_cast<size_t> (i)];
    right += is_draft;
    if (generated + i >= params.min_tokens &&
        std::binary_search (sequence.stop_ids.begin (), sequence.stop_ids.end (), sampled.token))
      row.finish = FinishReason::kStop;
    else if (length + row.accepted_count >= sequence.max_tokens)
      row.finish = FinishReason::kLength;
    if (!is_draft || row.ended ())
      break;
  }
  if (row.draft.count > 0)
    note_draft (row, right);
}

} // namespace millrace
