// The sampler against one that is slow and obviously right, and its draws against the probabilities.
//
// labels: unit property
// timeout: 300
#include "engine/sampling/logits_scan.hpp"
#include "engine/sampling/philox.hpp"
#include "engine/sampling/sampler.hpp"
#include "engine/sampling/vectors.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

using namespace millrace;

namespace
{

constexpr float kInfinity = std::numeric_limits<float>::infinity ();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN ();

std::vector<TokenId>
sorted_ids (const std::vector<float> &logits)
{
  std::vector<TokenId> ids (logits.size ());
  std::iota (ids.begin (), ids.end (), 0);
  std::stable_sort (ids.begin (), ids.end (), [&] (TokenId a, TokenId b) { return logits[a] > logits[b]; });
  return ids;
}

/// Steps 2 to 4 of sampler.hpp, for one token after the other.
std::vector<float>
edited (std::vector<float> logits, const SamplingParams &params,
        const std::map<TokenId, std::pair<uint32_t, uint32_t>> &counts, const std::vector<TokenId> &stop_ids,
        uint64_t position)
{
  for (const auto &[token, bias] : params.logit_bias)
    logits[token] = bias <= -100 ? -kInfinity : logits[token] + bias;
  for (const auto &[token, count] : counts) {
    float &logit = logits[token];
    if (logit == -kInfinity)
      continue;
    const double r = params.repetition_penalty;
    logit = static_cast<float> (logit > 0 ? logit / r : logit * r);
    if (count.second > 0)
      logit =
          static_cast<float> (logit - (params.presence_penalty + params.frequency_penalty * count.second));
  }
  if (position < static_cast<uint64_t> (params.min_tokens)) {
    for (const TokenId token : stop_ids)
      logits[token] = -kInfinity;
  }
  return logits;
}

/// Candidates left by the filters with their probabilities, best first; `margin` is how close a filter came
/// to deciding otherwise, so that a difference in rounding can be told from an error.
struct Distribution {
  std::vector<TokenId> tokens;
  std::vector<double> probabilities;
  double margin = 1;
};

Distribution
distribution (const std::vector<float> &logits, const SamplingParams &params)
{
  std::vector<TokenId> ids = sorted_ids (logits);
  std::erase_if (ids, [&] (TokenId id) { return logits[id] == -kInfinity; });
  Distribution result;
  if (params.top_k > 0 && ids.size () > static_cast<size_t> (params.top_k))
    ids.resize (params.top_k);
  const auto softmax = [&] {
    std::vector<double> p;
    double sum = 0;
    for (const TokenId id : ids)
      sum += p.emplace_back (std::exp (
          (static_cast<double> (logits[id]) - static_cast<double> (logits[ids[0]])) / params.temperature));
    for (double &each : p)
      each /= sum;
    return p;
  };
  std::vector<double> p = softmax ();
  if (params.top_p < 1) {
    double sum = 0;
    size_t kept = 0;
    while (kept < p.size () && sum < params.top_p) {
      sum += p[kept++];
      result.margin = std::min (result.margin, std::abs (sum - params.top_p));
    }
    ids.resize (kept);
    p.resize (kept);
  }
  size_t kept = 0;
  while (kept < p.size () && p[kept] >= params.min_p * p[0])
    ++kept;
  for (const double each : p)
    result.margin =
        params.min_p > 0 ? std::min (result.margin, std::abs (each / p[0] - params.min_p)) : result.margin;
  ids.resize (kept);
  result.probabilities = softmax ();
  result.tokens = ids;
  return result;
}

/// The draw, and the tokens that rounding could have made of it.
std::vector<TokenId>
possible_draws (const Distribution &all, double u)
{
  constexpr double kRounding = 1e-11;
  std::vector<TokenId> draws;
  double below = 0;
  for (size_t i = 0; i < all.tokens.size (); ++i) {
    const double to = i + 1 == all.tokens.size () ? 1 : below + all.probabilities[i];
    if (u < to + kRounding && u >= below - kRounding)
      draws.push_back (all.tokens[i]);
    below = to;
  }
  return draws;
}

std::vector<float>
random_logits (std::mt19937_64 &random)
{
  const size_t sizes[] = {1, 2, 3, 7, 16, 17, 64, 130, 500, 2'500};
  std::vector<float> logits (sizes[random () % std::size (sizes)]);
  const double scales[] = {0.01, 1, 3, 20, 1'000};
  std::normal_distribution<double> normal (0, scales[random () % std::size (scales)]);
  const bool ties = random () % 3 == 0, holes = random () % 3 == 0;
  for (float &logit : logits) {
    logit = static_cast<float> (normal (random));
    if (ties)
      logit = std::round (logit);
    if (holes && random () % 4 == 0)
      logit = -kInfinity;
  }
  return logits;
}

template <typename... T>
auto
one_of (std::mt19937_64 &random, T... values)
{
  const std::common_type_t<T...> all[] = {static_cast<std::common_type_t<T...>> (values)...};
  return all[random () % sizeof...(values)];
}

SamplingParams
random_params (std::mt19937_64 &random, size_t vocab)
{
  SamplingParams params;
  params.temperature = one_of (random, 0.0, 0.05, 0.3, 0.7, 1.0, 1.3, 5.0, 100.0);
  params.top_k = one_of (random, 0, 0, 1, 2, 5, 40, 1000);
  params.top_p = one_of (random, 1.0, 1.0, 0.95, 0.9, 0.5, 0.01);
  params.min_p = one_of (random, 0.0, 0.0, 0.01, 0.2, 1.0);
  params.repetition_penalty = one_of (random, 1.0, 1.0, 1.1, 0.5, 7.0);
  params.presence_penalty = one_of (random, 0.0, 0.0, 0.6, -3.0);
  params.frequency_penalty = one_of (random, 0.0, 0.0, 0.3, -0.1);
  params.seed = random ();
  params.logprobs = one_of (random, -1, -1, 0, 1, 5, 20);
  params.min_tokens = one_of (random, 0, 0, 3);
  for (size_t i = random () % 3; i > 0 && random () % 2; --i)
    params.logit_bias.emplace_back (static_cast<TokenId> (random () % vocab),
                                    one_of (random, -100.0f, -5.0f, 2.5f, 40.0f));
  return params;
}

} // namespace

TEST (Sampler, equals_a_full_sort_over_random_logits_and_parameters)
{
  Sampler sampler;
  int rounding = 0, drawn = 0, failed = 0;
  for (uint64_t seed = 0; seed < 12'000; ++seed) {
    std::mt19937_64 random (seed);
    const std::vector<float> raw = random_logits (random);
    const size_t vocab = raw.size ();
    const SamplingParams params = random_params (random, vocab);
    const uint64_t position = random () % 6;
    TokenCounts counts;
    std::map<TokenId, std::pair<uint32_t, uint32_t>> counted;
    if (params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0) {
      for (size_t i = random () % 30; i > 0; --i) {
        const auto token = static_cast<TokenId> (random () % vocab);
        if (random () % 2) {
          counts.add_generated (token);
          ++counted[token].second;
        } else {
          counts.add_prompt (std::array{token});
          ++counted[token].first;
        }
      }
    }
    std::vector<TokenId> stop_ids;
    for (size_t i = random () % 3; i > 0; --i)
      stop_ids.push_back (static_cast<TokenId> (random () % vocab));

    std::vector<float> logits = raw;
    std::vector<TokenLogprob> top (random () % 3);
    const size_t top_before = top.size ();
    const SampledToken sampled = sampler.sample (logits, params, counts, stop_ids, position, top);

    const std::vector<float> expected = edited (raw, params, counted, stop_ids, position);
    const std::vector<TokenId> order = sorted_ids (expected);
    if (expected[order[0]] == -kInfinity) {
      ASSERT_EQ (sampled.token, -1) << "seed " << seed;
      ++failed;
      continue;
    }
    if (params.temperature == 0) {
      ASSERT_EQ (sampled.token, order[0]) << "seed " << seed;
    } else {
      const Distribution all = distribution (expected, params);
      const std::vector<TokenId> draws = possible_draws (all, uniform (params.seed, position, 0));
      const bool found = std::find (draws.begin (), draws.end (), sampled.token) != draws.end ();
      ASSERT_TRUE (found || all.margin < 1e-11)
          << "seed " << seed << ": got " << sampled.token << ", expected " << draws[0] << ", vocab " << vocab
          << ", temperature " << params.temperature << ", top_k " << params.top_k << ", top_p "
          << params.top_p << ", min_p " << params.min_p << ", margin " << all.margin;
      ++drawn;
      rounding += !found || draws.size () > 1;
    }

    if (params.logprobs < 0) {
      ASSERT_EQ (top.size (), top_before) << "seed " << seed;
      continue;
    }
    const std::vector<TokenId> best = sorted_ids (raw);
    double sum = 0;
    for (const float logit : raw)
      sum += std::exp (static_cast<double> (logit) - raw[best[0]]);
    const auto logprob = [&] (TokenId id) {
      return static_cast<double> (raw[id]) - raw[best[0]] - std::log (sum);
    };
    ASSERT_NEAR (sampled.logprob, logprob (sampled.token), 1e-6 * (1 + std::abs (logprob (sampled.token))))
        << "seed " << seed;
    const auto finite = std::count_if (raw.begin (), raw.end (), [] (float x) { return x > -kInfinity; });
    ASSERT_EQ (sampled.top_count, std::min<int64_t> (params.logprobs, finite)) << "seed " << seed;
    ASSERT_EQ (sampled.top_begin, static_cast<int> (top_before)) << "seed " << seed;
    ASSERT_EQ (top.size (), top_before + sampled.top_count) << "seed " << seed;
    for (int i = 0; i < sampled.top_count; ++i) {
      ASSERT_EQ (top[top_before + i].token, best[i]) << "seed " << seed << " place " << i;
      ASSERT_NEAR (top[top_before + i].logprob, logprob (best[i]), 1e-6 * (1 + std::abs (logprob (best[i]))))
          << "seed " << seed << " place " << i;
    }
  }
  EXPECT_GT (drawn, 8'000);
  EXPECT_GT (failed, 10);
  EXPECT_LT (rounding, 1'500) << "so few draws are undecided that the comparison means something";
  std::printf ("%d draws, %d of them within rounding, %d rows without a token\n", drawn, rounding, failed);
}

TEST (Sampler, draws_follow_the_probabilities)
{
  const struct {
    double temperature;
    int top_k;
    double top_p, min_p;
  } cases[] = {{1, 0, 1, 0},    {0.6, 0, 1, 0},    {2.5, 0, 1, 0},      {1, 10, 1, 0},        {1, 0, 0.8, 0},
               {1, 0, 1, 0.05}, {1.4, 25, 0.9, 0}, {1.4, 0, 0.95, 0.1}, {0.9, 30, 0.9, 0.02}, {100, 0, 1, 0}};
  Sampler sampler;
  TokenCounts counts;
  std::vector<TokenLogprob> top;
  uint64_t seed = 1;
  for (const auto &each : cases) {
    std::mt19937_64 random (++seed);
    std::normal_distribution<float> normal (0, 1); // narrow enough that every filter leaves several tokens
    std::vector<float> logits (60);
    for (float &logit : logits)
      logit = normal (random);
    SamplingParams params;
    params.temperature = each.temperature;
    params.top_k = each.top_k;
    params.top_p = each.top_p;
    params.min_p = each.min_p;
    params.seed = seed;
    const Distribution expected = distribution (logits, params);

    constexpr int kDraws = 40'000;
    std::map<TokenId, int> drawn;
    for (int position = 0; position < kDraws; ++position) {
      std::vector<float> row = logits;
      ++drawn[sampler.sample (row, params, counts, {}, static_cast<uint64_t> (position), top).token];
    }
    double chi_square = 0, rest = 0;
    int rest_drawn = 0, freedom = -1;
    const auto add = [&] (double mean, int observed) {
      chi_square += (observed - mean) * (observed - mean) / mean;
      ++freedom;
    };
    for (size_t i = 0; i < expected.tokens.size (); ++i) {
      const double mean = expected.probabilities[i] * kDraws;
      const int observed = drawn[expected.tokens[i]];
      drawn.erase (expected.tokens[i]);
      if (mean >= 5) {
        add (mean, observed);
      } else {
        rest += mean;
        rest_drawn += observed;
      }
    }
    if (rest >= 5)
      add (rest, rest_drawn);
    EXPECT_TRUE (drawn.empty ()) << "seed " << seed << ": token " << drawn.begin ()->first
                                 << " was filtered out";
    // Mean and variance of chi square are its degrees of freedom and twice that.
    const double bound = freedom + 4 * std::sqrt (2.0 * freedom) + 4;
    std::printf ("seed %d: %zu candidates, chi square %.1f at %d degrees of freedom\n",
                 static_cast<int> (seed), expected.tokens.size (), chi_square, freedom);
    EXPECT_LT (chi_square, bound) << "seed " << seed << ", " << freedom << " degrees of freedom";
    EXPECT_GE (freedom, 1) << "seed " << seed << ", " << expected.tokens.size () << " candidates";
  }
}

TEST (Sampler, the_filters_give_one_result_at_a_large_vocabulary)
{
  // As many logits as the largest vocabularies have, so that blocks, bins and cut-backs are all in use.
  constexpr size_t kVocab = 151'936;
  Sampler sampler;
  TokenCounts counts;
  std::vector<TokenLogprob> top;
  int rounding = 0;
  for (uint64_t seed = 0; seed < 24; ++seed) {
    std::mt19937_64 random (seed);
    std::normal_distribution<float> normal (0, seed % 2 ? 3 : 0.3f);
    std::vector<float> logits (kVocab);
    for (float &logit : logits)
      logit = seed % 3 ? normal (random) : std::round (4 * normal (random)) / 4;
    SamplingParams params = random_params (random, kVocab);
    params.temperature = std::max (params.temperature, 0.5);
    params.top_k = one_of (random, 0, 0, 50, 3'000);
    params.repetition_penalty = 1;
    params.presence_penalty = params.frequency_penalty = 0;
    params.logit_bias.clear ();
    params.min_tokens = 0;
    const Distribution all = distribution (logits, params);
    for (uint64_t position = 0; position < 3; ++position) {
      std::vector<float> row = logits;
      const TokenId token = sampler.sample (row, params, counts, {}, position, top).token;
      const std::vector<TokenId> draws = possible_draws (all, uniform (params.seed, position, 0));
      const bool found = std::find (draws.begin (), draws.end (), token) != draws.end ();
      EXPECT_TRUE (found || all.margin < 1e-11)
          << "seed " << seed << " position " << position << " got " << token;
      rounding += draws.size () > 1;
    }
  }
  EXPECT_LE (rounding, 3);
}

TEST (Sampler, greedy_takes_the_lowest_id_of_the_largest_wherever_it_is)
{
  Sampler sampler;
  std::vector<TokenLogprob> top;
  for (const size_t vocab : {1u, 15u, 16u, 17u, 1'023u, 1'024u, 1'025u, 5'000u}) {
    for (size_t at = 0; at < vocab; at += vocab < 100 ? 1 : 37) {
      std::vector<float> logits (vocab, -3.5f);
      logits[at] = 1.25f;
      logits[vocab - 1] = 1.25f;
      EXPECT_EQ (sampler.sample (logits, {}, {}, {}, 0, top).token, static_cast<TokenId> (at)) << vocab;
    }
  }
  std::vector<float> zeros = {-1, -0.0f, 0.0f};
  EXPECT_EQ (sampler.sample (zeros, {}, {}, {}, 0, top).token, 1) << "0 and -0 are equal";
}

TEST (Sampler, a_row_with_nan_or_without_a_finite_logit_gives_no_token)
{
  Sampler sampler;
  std::vector<TokenLogprob> top;
  for (const double temperature : {0.0, 1.0}) {
    SamplingParams params;
    params.temperature = temperature;
    params.logprobs = 3;
    for (const size_t vocab : {1u, 5u, 16u, 40u, 2'000u}) {
      for (size_t at = 0; at < vocab; at += vocab < 100 ? 1 : 97) {
        std::vector<float> logits (vocab, 1.0f);
        logits[at] = kNan;
        EXPECT_EQ (sampler.sample (logits, params, {}, {}, 0, top).token, -1) << vocab << " " << at;
      }
      std::vector<float> nothing (vocab, -kInfinity);
      EXPECT_EQ (sampler.sample (nothing, params, {}, {}, 0, top).token, -1) << vocab;
    }
    std::vector<float> all_banned = {1, 2};
    params.logit_bias = {{0, -100}, {1, -1000}};
    EXPECT_EQ (sampler.sample (all_banned, params, {}, {}, 0, top).token, -1);
  }
  EXPECT_TRUE (top.empty ()) << "no logprobs of a token that is none";
  EXPECT_EQ (sampler.sample ({}, {}, {}, {}, 0, top).token, -1);
}

TEST (Sampler, infinite_logits_share_everything)
{
  Sampler sampler;
  std::vector<TokenLogprob> top;
  SamplingParams params;
  params.logprobs = 5;
  std::map<TokenId, int> drawn;
  for (uint64_t position = 0; position < 200; ++position) {
    std::vector<float> logits = {3, kInfinity, -kInfinity, kInfinity, 1e38f};
    params.temperature = position % 2 ? 0.7 : 0;
    top.clear ();
    const SampledToken sampled = sampler.sample (logits, params, {}, {}, position, top);
    if (params.temperature > 0)
      ++drawn[sampled.token];
    else
      EXPECT_EQ (sampled.token, 1);
    EXPECT_NEAR (sampled.logprob, std::log (0.5), 1e-6);
    EXPECT_EQ (sampled.top_count, 2);
  }
  EXPECT_EQ (drawn.size (), 2u);
  EXPECT_GT (drawn[1], 30);
  EXPECT_GT (drawn[3], 30);
}

TEST (Sampler, extreme_parameters_stay_defined)
{
  Sampler sampler;
  std::vector<TokenLogprob> top;
  TokenCounts counts;
  counts.add_generated (1);
  for (const double temperature : {1e-310, 1e-40, 1e-9, 100.0}) {
    for (const float size : {1e-40f, 1.0f, 3e38f}) {
      SamplingParams params;
      params.temperature = temperature;
      params.repetition_penalty = 1e-300;
      params.top_p = 0.999;
      params.logit_bias = {{0, 3e38f}};
      std::vector<float> logits = {size, -size, size / 2, 0, -kInfinity};
      const TokenId token = sampler.sample (logits, params, counts, {}, 0, top).token;
      EXPECT_GE (token, 0) << temperature << " " << size;
      EXPECT_LT (token, 4) << temperature << " " << size;
    }
  }
}

TEST (Sampler, min_tokens_masks_stop_tokens_by_position)
{
  Sampler sampler;
  std::vector<TokenLogprob> top;
  SamplingParams params;
  params.min_tokens = 3;
  const std::vector<TokenId> stop_ids = {1, 2};
  for (uint64_t position = 0; position < 6; ++position) {
    std::vector<float> logits = {0, 5, 4, 1};
    const TokenId token = sampler.sample (logits, params, {}, stop_ids, position, top).token;
    EXPECT_EQ (token, position < 3 ? 3 : 1) << "position " << position;
  }
}

TEST (Exponential, is_within_a_few_units_of_the_last_place)
{
  double worst = 0;
  for (int i = 0; i <= 200'000; ++i) {
    const double x = -i * (707.0 / 200'000) - 1e-3 * std::sin (i);
    if (x > 0)
      continue;
    const double expected = std::exp (x);
    worst = std::max (worst, std::abs (exp_nonpositive (x) - expected) / expected);
    const Doubles pair = exp_nonpositive (Doubles{x / 3, x});
    ASSERT_EQ (pair[0], exp_nonpositive (x / 3)) << x;
    ASSERT_EQ (pair[1], exp_nonpositive (x)) << x;
  }
  EXPECT_LT (worst, 1e-14);
  EXPECT_EQ (exp_nonpositive (0.0), 1);
  EXPECT_EQ (exp_nonpositive (-1e5), 0);
  EXPECT_EQ (exp_nonpositive (-std::numeric_limits<double>::infinity ()), 0);
}
