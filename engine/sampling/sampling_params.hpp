// What a request asks of the sampler. Values; checked by validate ().
#pragma once

#include "engine/error.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace millrace
{

using TokenId = int32_t;

struct SamplingParams {
  double temperature = 0;        ///< 0: greedy; [0, 100]
  int top_k = 0;                 ///< 0: off
  double top_p = 1;              ///< (0, 1]; 1: off
  double min_p = 0;              ///< [0, 1]; 0: off
  double repetition_penalty = 1; ///< (0, 100]; divides positive and multiplies negative logits of seen tokens
  double presence_penalty = 0;   ///< [-100, 100]; over generated tokens
  double frequency_penalty = 0;  ///< [-100, 100]; times the count over generated tokens
  std::vector<std::pair<TokenId, float>> logit_bias; ///< added to logits; -100 or less bans the token
  uint64_t seed = 0;
  int logprobs = -1;    ///< -1: none; N >= 0: the chosen token's and the N best, at most kMaxTopLogprobs
  int max_tokens = 256; ///< generated tokens; 0: until the context is full
  int min_tokens = 0;   ///< no stop token before this many
  bool ignore_eos = false;
  std::vector<TokenId> stop_token_ids;
  std::vector<std::string> stop; ///< strings; the text ends before the first match
};

constexpr int kMaxTopLogprobs = 20;
constexpr int kMaxStopStrings = 16;
constexpr size_t kMaxStopBytes = 1024;

/// The first field that is out of range (NaN included), by its JSON name; `vocab` bounds token ids.
RequestError validate (const SamplingParams &params, int vocab);

} // namespace millrace
