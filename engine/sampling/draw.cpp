#include "engine/sampling/draw.hpp"

#include "engine/sampling/logits_scan.hpp"
#include "engine/sampling/vectors.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace millrace
{

namespace
{

/// Probability up to a factor: exp ((logit - max) / temperature), 1 for the best.
class Weights
{
public:
  Weights (float max, double temperature)
      : max_ (max)
      // Below this every temperature is the limit to 0, and its inverse would soon be infinite.
      , inverse_temperature_ (1 / std::max (temperature, 1e-30))
  {
  }

  double distance (float value) const { return max_ - static_cast<double> (value); }
  Doubles distances (const float *values) const
  {
    return max_ - __builtin_convertvector(load_vector<FloatPair> (values), Doubles);
  }
  /// Of one distance or of two.
  template <typename T>
  T at_distance (T distance) const
  {
    return exp_nonpositive (-(distance * inverse_temperature_));
  }
  double operator() (float value) const { return at_distance (distance (value)); }

private:
  double max_;
  double inverse_temperature_;
};

/// `sorted` has the candidates that top-k left, best first, and at least one.
TokenId
draw_from_sorted (std::span<const Candidate> sorted, const Weights &weight, const SamplingParams &params,
                  double u, std::vector<double> &cumulative)
{
  cumulative.clear ();
  double sum = 0;
  for (const Candidate &candidate : sorted)
    cumulative.push_back (sum += weight (candidate.value));

  size_t kept = sorted.size ();
  if (params.top_p < 1) {
    const double mass = params.top_p * sum;
    const auto cut = std::lower_bound (cumulative.begin (), cumulative.end (), mass);
    kept = std::min (kept, static_cast<size_t> (cut - cumulative.begin ()) + 1);
  }
  while (kept > 1 && weight (sorted[kept - 1].value) < params.min_p)
    --kept;

  // u is at most 1 - 2^-53, so that its product with a mass is rounded to less than that mass: the end is
  // never reached.
  const auto end = cumulative.begin () + static_cast<ptrdiff_t> (kept);
  const auto drawn = std::upper_bound (cumulative.begin (), end, u * end[-1]);
  return sorted[static_cast<size_t> (drawn - cumulative.begin ())].token;
}

/// Probability mass by distance from the largest logit. Bin width: fine enough that a bin has few candidates,
/// in logits (a row's spread over ids) as in temperatures (how fast mass falls off). The last bin has all the
/// rest.
class Histogram
{
public:
  static constexpr int kBins = 1024;

  Histogram (std::span<const float> logits, const Weights &weight, double temperature,
             std::vector<Candidate> &scratch, std::vector<double> &masses)
      : logits_ (logits)
      , weight_ (weight)
      , inverse_width_ (1 / std::max (std::min (temperature / 8, 1.0 / 16), 1e-30))
      , sorted_ (scratch)
      , masses_ (masses)
  {
  }

  /// Counts candidates whose weight is at least `floor`.
  void fill (double floor)
  {
    floor_ = floor;
    masses_.assign (kBins, 0);
    constexpr size_t kBlock = 128;
    std::array<double, kBlock> weights;
    std::array<int32_t, kBlock> bins;
    for (size_t begin = 0; begin < logits_.size (); begin += kBlock) {
      const float *block = logits_.data () + begin;
      const size_t count = std::min (kBlock, logits_.size () - begin);
      size_t i = 0;
      for (; i + 2 <= count; i += 2) {
        const Doubles distances = weight_.distances (block + i);
        const Doubles pair = weight_.at_distance (distances);
        store_vector (&weights[i], pair >= floor ? pair : broadcast (0));
        const Doubles bin = distances * inverse_width_;
        store_vector (&bins[i],
                      __builtin_convertvector(bin < kLastBin ? bin : broadcast (kLastBin), IntPair));
      }
      for (; i < count; ++i) {
        const double distance = weight_.distance (block[i]);
        const double weight = weight_.at_distance (distance);
        weights[i] = weight >= floor ? weight : 0;
        bins[i] = bin_at (distance);
      }
      for (i = 0; i < count; ++i)
        masses_[static_cast<size_t> (bins[i])] += weights[i];
    }
    total_ = 0;
    for (const double mass : masses_)
      total_ += mass;
  }

  double total () const { return total_; }

  /// A place in the order of candidates, and the mass up to and with it.
  struct Place {
    Candidate candidate;
    double mass;
  };

  /// The first candidate at which the mass passes `target` (strictly, or reaches it).
  template <bool kStrictly>
  Place find (double target)
  {
    double before = 0, reached = 0;
    int last = 0;
    for (int bin = 0; bin < kBins && !passes<kStrictly> (reached, target); ++bin) {
      const double mass = masses_[static_cast<size_t> (bin)];
      if (mass > 0) {
        last = bin;
        before = reached;
        reached += mass;
      }
    }
    sort_bin (last);
    // A bin's mass was summed in id order, here in order of probability: should rounding keep this sum from
    // passing the target, its last candidate is the one.
    Place place{sorted_.front (), before};
    for (const Candidate &candidate : sorted_) {
      place.candidate = candidate;
      place.mass += weight_ (candidate.value);
      if (passes<kStrictly> (place.mass, target))
        break;
    }
    return place;
  }

private:
  static constexpr double kLastBin = kBins - 1;

  template <bool kStrictly>
  static bool passes (double mass, double target)
  {
    return kStrictly ? mass > target : mass >= target;
  }

  int32_t bin_at (double distance) const
  {
    const double bin = distance * inverse_width_;
    return static_cast<int32_t> (bin < kLastBin ? bin : kLastBin);
  }

  void sort_bin (int bin)
  {
    // Most strides have none of the bin: bounds that are surely wide enough find that out at the cost of a
    // load.
    const double width = 1 / inverse_width_, max = weight_.distance (0);
    const double slack = 1e-6 * (std::abs (max) + (bin + 1) * width) + 1e-30;
    constexpr double kLargest = std::numeric_limits<float>::max ();
    const auto high = static_cast<float> (std::min (max - bin * width + slack, kLargest));
    const auto low = static_cast<float> (
        bin == kBins - 1 ? -kLargest : std::max (max - (bin + 1) * width - slack, -kLargest));
    sorted_.clear ();
    for (size_t begin = 0; begin < logits_.size (); begin += kStride) {
      const size_t end = std::min (begin + kStride, logits_.size ());
      if (end - begin == kStride && !has_within (logits_.data () + begin, low, high))
        continue;
      for (size_t i = begin; i < end; ++i) {
        const double distance = weight_.distance (logits_[i]);
        if (bin_at (distance) != bin)
          continue;
        const double weight = weight_.at_distance (distance);
        if (weight > 0 && weight >= floor_)
          sorted_.push_back ({logits_[i], static_cast<TokenId> (i)});
      }
    }
    std::sort (sorted_.begin (), sorted_.end (), is_better);
  }

  std::span<const float> logits_;
  Weights weight_;
  double inverse_width_;
  std::vector<Candidate> &sorted_;
  std::vector<double> &masses_;
  double floor_ = 0;
  double total_ = 0;
};

TokenId
draw_from_all (std::span<const float> logits, const Weights &weight, const SamplingParams &params, double u,
               std::vector<Candidate> &scratch, std::vector<double> &masses)
{
  Histogram histogram (logits, weight, params.temperature, scratch, masses);
  if (params.top_p == 1) {
    histogram.fill (params.min_p);
    return histogram.find<true> (u * histogram.total ()).candidate.token;
  }
  histogram.fill (0);
  const Histogram::Place cut = histogram.find<false> (params.top_p * histogram.total ());
  if (weight (cut.candidate.value) < params.min_p) {
    // min-p cuts inside of what top-p left, so that top-p does not matter.
    histogram.fill (params.min_p);
    return histogram.find<true> (u * histogram.total ()).candidate.token;
  }
  // Up to the cut the same masses are added in the same order, and u times the last is less than it.
  return histogram.find<true> (u * cut.mass).candidate.token;
}

} // namespace

TokenId
draw_token (std::span<const float> logits, float max, const SamplingParams &params, double u,
            std::vector<Candidate> &candidates, std::vector<double> &masses)
{
  const Weights weight (max, params.temperature);
  if (params.top_k > 0 && static_cast<size_t> (params.top_k) < logits.size ()) {
    select_top (logits, static_cast<size_t> (params.top_k), candidates);
    return draw_from_sorted (candidates, weight, params, u, masses);
  }
  return draw_from_all (logits, weight, params, u, candidates, masses);
}

} // namespace millrace
