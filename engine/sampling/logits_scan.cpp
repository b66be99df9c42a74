#include "engine/sampling/logits_scan.hpp"

#include "engine/sampling/vectors.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millrace
{

namespace
{

constexpr size_t kLanes = sizeof (Floats) / sizeof (float);
static_assert (kStride == 4 * kLanes, "four vectors at a time hide the latency of a comparison");
constexpr size_t kBlock = 64 * kStride; ///< small enough to be searched for its maximum a second time
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity ();

struct BlockPeak {
  float value;
  bool has_nan;
};

BlockPeak
find_block_peak (std::span<const float> block)
{
  constexpr Floats kStart = {kMinusInfinity, kMinusInfinity, kMinusInfinity, kMinusInfinity};
  Floats best0 = kStart, best1 = kStart, best2 = kStart, best3 = kStart;
  FloatMask nans{};
  const float *at = block.data ();
  const float *const whole = at + block.size () / kStride * kStride;
  for (; at != whole; at += kStride) {
    const auto v0 = load_vector<Floats> (at), v1 = load_vector<Floats> (at + kLanes);
    const auto v2 = load_vector<Floats> (at + 2 * kLanes), v3 = load_vector<Floats> (at + 3 * kLanes);
    best0 = v0 > best0 ? v0 : best0;
    best1 = v1 > best1 ? v1 : best1;
    best2 = v2 > best2 ? v2 : best2;
    best3 = v3 > best3 ? v3 : best3;
    nans |= ((v0 != v0) | (v1 != v1)) | ((v2 != v2) | (v3 != v3));
  }
  BlockPeak peak{kMinusInfinity, any (nans)};
  for (const float *const end = block.data () + block.size (); at != end; ++at) {
    peak.value = std::max (peak.value, *at);
    peak.has_nan |= std::isnan (*at);
  }
  for (size_t lane = 0; lane < kLanes; ++lane)
    peak.value = std::max ({peak.value, best0[lane], best1[lane], best2[lane], best3[lane]});
  return peak;
}

} // namespace

Candidate
find_peak (std::span<const float> logits)
{
  float best = kMinusInfinity;
  size_t best_block = 0;
  for (size_t begin = 0; begin < logits.size (); begin += kBlock) {
    const auto block = logits.subspan (begin, std::min (kBlock, logits.size () - begin));
    const BlockPeak peak = find_block_peak (block);
    if (peak.has_nan)
      return {peak.value, -1};
    if (peak.value > best) {
      best = peak.value;
      best_block = begin;
    }
  }
  if (best == kMinusInfinity)
    return {best, -1};
  const auto found = std::find (logits.begin () + static_cast<ptrdiff_t> (best_block), logits.end (), best);
  return {best, static_cast<TokenId> (found - logits.begin ())};
}

bool
has_above (const float *stride, float bound)
{
  const Floats bounds = {bound, bound, bound, bound};
  return any (((load_vector<Floats> (stride) > bounds) | (load_vector<Floats> (stride + kLanes) > bounds)) |
              ((load_vector<Floats> (stride + 2 * kLanes) > bounds) |
               (load_vector<Floats> (stride + 3 * kLanes) > bounds)));
}

bool
has_within (const float *stride, float low, float high)
{
  const Floats lows = {low, low, low, low}, highs = {high, high, high, high};
  FloatMask found{};
  for (size_t i = 0; i < kStride; i += kLanes) {
    const auto values = load_vector<Floats> (stride + i);
    found |= (values >= lows) & (values <= highs);
  }
  return any (found);
}

double
sum_exp (std::span<const float> logits, float max)
{
  constexpr size_t kSums = 8;
  const auto weight_at = [&] (size_t i) {
    return exp_nonpositive (static_cast<double> (logits[i]) - static_cast<double> (max));
  };
  const auto weights_at = [&] (size_t i) {
    return exp_nonpositive (__builtin_convertvector(load_vector<FloatPair> (&logits[i]), Doubles) -
                            double{max});
  };
  Doubles sum0{}, sum1{}, sum2{}, sum3{};
  const size_t whole = logits.size () / kSums * kSums;
  for (size_t i = 0; i < whole; i += kSums) {
    sum0 += weights_at (i);
    sum1 += weights_at (i + 2);
    sum2 += weights_at (i + 4);
    sum3 += weights_at (i + 6);
  }
  const Doubles sums = (sum0 + sum2) + (sum1 + sum3);
  double sum = sums[0] + sums[1];
  for (size_t i = whole; i < logits.size (); ++i)
    sum += weight_at (i);
  return sum;
}

void
select_top (std::span<const float> logits, size_t count, std::vector<Candidate> &out)
{
  out.clear ();
  count = std::min (count, logits.size ());
  if (count == 0)
    return;

  // One scan keeps what beats the best `count` so far. Ids ascend, so a logit equal to the bound is worse
  // than all that made it: strictly above is the exact test. The buffer is cut back when it is twice full.
  const size_t limit = count + std::max<size_t> (count, 64);
  out.reserve (std::min (limit, logits.size ()));
  float bound = kMinusInfinity;
  const auto cut_back = [&] {
    std::nth_element (out.begin (), out.begin () + static_cast<ptrdiff_t> (count - 1), out.end (), is_better);
    out.resize (count);
    bound = out.back ().value;
  };
  for (size_t begin = 0; begin < logits.size (); begin += kStride) {
    const size_t end = std::min (begin + kStride, logits.size ());
    if (end - begin == kStride && !has_above (logits.data () + begin, bound))
      continue;
    for (size_t i = begin; i < end; ++i) {
      if (logits[i] > bound) {
        out.push_back ({logits[i], static_cast<TokenId> (i)});
        if (out.size () == limit)
          cut_back ();
      }
    }
  }
  if (out.size () > count)
    cut_back ();
  std::sort (out.begin (), out.end (), is_better);
}

} // namespace millrace
