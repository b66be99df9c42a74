// Which sampling parameters are refused, and counting tokens for penalties.
//
// labels: unit
#include "engine/sampling/sampling_params.hpp"
#include "engine/sampling/token_counts.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>

using namespace millrace;

namespace
{

constexpr double kNan = std::numeric_limits<double>::quiet_NaN ();
constexpr double kInfinity = std::numeric_limits<double>::infinity ();
constexpr int kVocab = 1000;

struct Case {
  const char *field; ///< the one refused; empty: all is well
  std::function<void (SamplingParams &)> change;
};

} // namespace

TEST (SamplingParams, out_of_range_values_are_refused_by_field)
{
  const Case cases[] = {
      {"", [] (auto &) {}},
      {"", [] (auto &p) { p.temperature = 100; }},
      {"temperature", [] (auto &p) { p.temperature = -1; }},
      {"temperature", [] (auto &p) { p.temperature = 100.5; }},
      {"temperature", [] (auto &p) { p.temperature = kNan; }},
      {"temperature", [] (auto &p) { p.temperature = kInfinity; }},
      {"", [] (auto &p) { p.top_k = std::numeric_limits<int>::max (); }},
      {"top_k", [] (auto &p) { p.top_k = -1; }},
      {"", [] (auto &p) { p.top_p = 1e-9; }},
      {"top_p", [] (auto &p) { p.top_p = 0; }},
      {"top_p", [] (auto &p) { p.top_p = 1.01; }},
      {"top_p", [] (auto &p) { p.top_p = kNan; }},
      {"", [] (auto &p) { p.min_p = 1; }},
      {"min_p", [] (auto &p) { p.min_p = -0.1; }},
      {"min_p", [] (auto &p) { p.min_p = 1.1; }},
      {"min_p", [] (auto &p) { p.min_p = kNan; }},
      {"", [] (auto &p) { p.repetition_penalty = 100; }},
      {"repetition_penalty", [] (auto &p) { p.repetition_penalty = 0; }},
      {"repetition_penalty", [] (auto &p) { p.repetition_penalty = 101; }},
      {"repetition_penalty", [] (auto &p) { p.repetition_penalty = kNan; }},
      {"", [] (auto &p) { p.presence_penalty = -100; }},
      {"presence_penalty", [] (auto &p) { p.presence_penalty = -101; }},
      {"presence_penalty", [] (auto &p) { p.presence_penalty = kNan; }},
      {"", [] (auto &p) { p.frequency_penalty = 100; }},
      {"frequency_penalty", [] (auto &p) { p.frequency_penalty = 100.1; }},
      {"frequency_penalty", [] (auto &p) { p.frequency_penalty = kInfinity; }},
      {"",
       [] (auto &p) {
         p.logit_bias = {{0, -1e30f}, {kVocab - 1, 5}};
       }},
      {"logit_bias",
       [] (auto &p) {
         p.logit_bias = {{kVocab, 1}};
       }},
      {"logit_bias",
       [] (auto &p) {
         p.logit_bias = {{-1, 1}};
       }},
      {"logit_bias",
       [] (auto &p) {
         p.logit_bias = {{1, static_cast<float> (kNan)}};
       }},
      {"logit_bias",
       [] (auto &p) {
         p.logit_bias = {{1, static_cast<float> (kInfinity)}};
       }},
      {"", [] (auto &p) { p.logprobs = kMaxTopLogprobs; }},
      {"", [] (auto &p) { p.logprobs = 0; }},
      {"logprobs", [] (auto &p) { p.logprobs = -2; }},
      {"logprobs", [] (auto &p) { p.logprobs = kMaxTopLogprobs + 1; }},
      {"", [] (auto &p) { p.max_tokens = 0; }},
      {"max_tokens", [] (auto &p) { p.max_tokens = -1; }},
      {"min_tokens", [] (auto &p) { p.min_tokens = -1; }},
      {"min_tokens", [] (auto &p) { p.min_tokens = p.max_tokens + 1; }},
      {"", [] (auto &p) { p.min_tokens = p.max_tokens; }},
      {"", [] (auto &p) { p.max_tokens = 0, p.min_tokens = 5000; }},
      {"",
       [] (auto &p) {
         p.stop_token_ids = {0, kVocab - 1};
       }},
      {"stop_token_ids",
       [] (auto &p) {
         p.stop_token_ids = {3, kVocab};
       }},
      {"stop_token_ids", [] (auto &p) { p.stop_token_ids = {-1}; }},
      {"", [] (auto &p) { p.stop.assign (kMaxStopStrings, std::string (kMaxStopBytes, 'x')); }},
      {"stop", [] (auto &p) { p.stop.assign (kMaxStopStrings + 1, "x"); }},
      {"stop", [] (auto &p) { p.stop = {std::string (kMaxStopBytes + 1, 'x')}; }},
      {"stop",
       [] (auto &p) {
         p.stop = {"a", ""};
       }},
  };
  int number = 0;
  for (const Case &each : cases) {
    SamplingParams params;
    each.change (params);
    const RequestError error = validate (params, kVocab);
    EXPECT_EQ (error.field, each.field) << "case " << number << ": " << error.message;
    EXPECT_STREQ (error.code, *each.field ? "invalid_request" : "") << "case " << number;
    EXPECT_EQ (error.message.rfind (each.field, 0), 0u) << error.message;
    ++number;
  }
}

TEST (SamplingParams, messages_say_the_range_and_the_value)
{
  SamplingParams params;
  params.temperature = -1;
  EXPECT_EQ (validate (params, kVocab).message, "temperature must be between 0 and 100, got -1");
  params.temperature = kNan;
  EXPECT_EQ (validate (params, kVocab).message, "temperature must be between 0 and 100, got nan");
  params = {};
  params.top_p = 0;
  EXPECT_EQ (validate (params, kVocab).message, "top_p must be greater than 0 and at most 1, got 0");
  params = {};
  params.stop_token_ids = {kVocab};
  EXPECT_EQ (validate (params, kVocab).message,
             "stop_token_ids has token 1000, which the model does not have; ids are 0 to 999");
}

TEST (TokenCounts, agree_with_a_map_in_order_of_first_occurrence)
{
  for (uint64_t seed = 0; seed < 200; ++seed) {
    std::mt19937_64 random (seed);
    const int reserved = 1 + static_cast<int> (random () % 200);
    const auto spread = static_cast<TokenId> (1 + random () % (random () % 2 ? 20 : 1'000'000));
    TokenCounts counts;
    // Past the reserved number of tokens counts stay right; there they may allocate.
    const int tokens = static_cast<int> (random () % 400);
    if (random () % 8)
      counts.reserve (reserved);
    std::map<TokenId, std::pair<uint32_t, uint32_t>> expected;
    std::vector<TokenId> order;
    for (int i = 0; i < tokens; ++i) {
      const auto token = static_cast<TokenId> (random () % static_cast<uint64_t> (spread));
      if (expected.try_emplace (token).second)
        order.push_back (token);
      if (random () % 2) {
        counts.add_prompt (std::array{token, TokenId{-1}});
        ++expected[token].first;
      } else {
        counts.add_generated (token);
        ++expected[token].second;
      }
    }
    std::vector<TokenId> seen;
    counts.for_each ([&] (const TokenCount &count) {
      seen.push_back (count.token);
      EXPECT_EQ (count.prompt, expected[count.token].first) << "seed " << seed << " token " << count.token;
      EXPECT_EQ (count.generated, expected[count.token].second)
          << "seed " << seed << " token " << count.token;
    });
    EXPECT_EQ (seen, order) << "seed " << seed;
    EXPECT_EQ (counts.distinct (), static_cast<int> (order.size ())) << "seed " << seed;
    counts.reserve (reserved);
    EXPECT_EQ (counts.distinct (), 0);
  }
}
