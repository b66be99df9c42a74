// labels: unit
//
// Attention with KV of bytes: every instruction set gives what kernels.hpp prescribes, which is written here a second time, in
// double precision and of the bytes that kv_storage.hpp describes; and what that costs against attention without rounding.
#include "engine/tensor/dtype.hpp"
#include "tests/kv_problem.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <span>

using namespace millrace;
using namespace millrace::cpu;
using namespace millrace::testing;

namespace
{

constexpr uint32_t kSeed = 61;

template <typename T>
T
read_at (const std::byte *data, size_t offset)
{
  T value;
  std::memcpy (&value, data + offset, sizeof value);
  return value;
}

// What is stored of one position. Elements of a value are steps of its scale, or with kK8V4 (scale 1) what they stand for.
struct StoredPosition {
  std::vector<int> key;
  float key_scale;
  std::vector<double> value;
  float value_scale;
};

StoredPosition
stored (KvProblem &problem, int position)
{
  const std::byte *keys = problem.keys_at (position), *values = problem.values_at (position);
  const auto slot = static_cast<size_t> (position % 16), head_dim = static_cast<size_t> (problem.head_dim),
             width = static_cast<size_t> (problem.place.value_width);
  const auto step = [] (std::byte byte) { return std::to_integer<int> (byte) - 128; };
  StoredPosition out;
  for (size_t i = 0; i < head_dim; ++i)
    out.key.push_back (step (keys[(i / 4 * 16 + slot) * 4 + i % 4]));
  out.key_scale = read_at<float> (keys, (head_dim + 3) / 4 * 64 + slot * sizeof (float));
  for (size_t i = 0; i < head_dim; ++i) {
    if (problem.type == KvType::kQ8) {
      const size_t panel = i / 64 * 64, elements = std::min<size_t> (64, width - panel);
      out.value.push_back (step (values[panel * 16 + (slot / 4 * elements + i - panel) * 4 + slot % 4]));
    } else {
      const size_t group = slot * (width / 32) + i / 32, pair = width / 2 * 16 + group * 4;
      const int both = std::to_integer<int> (values[group * 16 + i % 16]);
      const double scale = f16_to_f32 (read_at<uint16_t> (values, pair)),
                   minimum = f16_to_f32 (read_at<uint16_t> (values, pair + 2));
      out.value.push_back (scale * (i % 32 < 16 ? both & 15 : both >> 4) + minimum);
    }
  }
  out.value_scale =
      problem.type == KvType::kQ8 ? read_at<float> (values, width * 16 + slot * sizeof (float)) : 1.0f;
  return out;
}

// Floats make so large an error, as a part of them, in weights times scales: e^x and products. So near the middle of two steps a
// weight may be rounded either way.
constexpr double kWeightError = 1e-6;
constexpr int kMost = 127 * 256 + 127; ///< steps

// A sum of values with the weights e^(score - largest), and how far it may be off for weights that may be rounded either way.
struct State {
  double largest = -std::numeric_limits<double>::infinity (), sum = 0;
  std::vector<double> values, doubts;

  void add (State other)
  {
    if (values.empty ()) {
      *this = std::move (other);
      return;
    }
    const double now = std::max (largest, other.largest), factor = std::exp (largest - now),
                 other_factor = std::exp (other.largest - now);
    sum = sum * factor + other.sum * other_factor;
    for (size_t i = 0; i < values.size (); ++i) {
      values[i] = values[i] * factor + other.values[i] * other_factor;
      doubts[i] = doubts[i] * factor + other.doubts[i] * other_factor;
    }
    largest = now;
  }
};

float
largest_of (std::span<const float> x)
{
  float top = 0;
  for (const float value : x)
    top = std::max (top, std::fabs (value));
  return top;
}

class Prescribed
{
public:
  explicit Prescribed (KvProblem &problem)
      : problem_ (problem)
  {
    for (int position = 0; position < static_cast<int> (problem.keys.size ()); ++position)
      stored_.push_back (stored (problem, position));
  }

  State attention (int query, Range range) const
  {
    const std::vector<float> scores = scores_of (query, range);
    State all;
    float largest = 0;
    for (int begin = range.begin, end; begin < range.end; begin = end) {
      end = std::min (range.end, (begin / 256 + 1) * 256);
      if (begin == range.begin || begin % 1024 == 0)
        largest = -std::numeric_limits<float>::infinity ();
      for (int position = begin; position < end; ++position)
        largest = std::max (largest, scores[static_cast<size_t> (position - range.begin)]);
      all.add (chunk (scores.data () + (begin - range.begin), begin, end, largest));
    }
    for (size_t i = 0; i < all.values.size (); ++i) {
      all.values[i] /= all.sum;
      all.doubts[i] /= all.sum;
    }
    return all;
  }

  // By how much rounding a query's elements moves its score with a key of deviation 1: each by up to half a step.
  double deviation (int query) const
  {
    return 0.3 * step_of (elements (query)) * std::sqrt (problem_.head_dim / 12.0);
  }

private:
  std::span<const float> elements (int query) const
  {
    const auto head_dim = static_cast<size_t> (problem_.head_dim);
    return std::span (problem_.queries).subspan (static_cast<size_t> (query) * head_dim, head_dim);
  }
  float most_steps () const
  {
    return static_cast<float> (std::min (kMost, 0x7fffffff / 128 / problem_.head_dim));
  }
  float step_of (std::span<const float> x) const { return largest_of (x) / most_steps (); }

  // Integers and products of floats: exact, and the same everywhere.
  std::vector<float> scores_of (int query, Range range) const
  {
    const auto x = elements (query);
    const float inverse = most_steps () / largest_of (x), step = step_of (x);
    std::vector<float> scores;
    for (int position = range.begin; position < range.end; ++position) {
      const StoredPosition &at = stored_[static_cast<size_t> (position)];
      int64_t sum = 0;
      for (size_t i = 0; i < x.size (); ++i)
        sum += std::lrint (x[i] * inverse) * at.key[i];
      EXPECT_LE (std::abs (sum), 0x7fffffff);
      scores.push_back (static_cast<float> (sum) * (at.key_scale * (step * 0.3f)));
    }
    return scores;
  }

  State chunk (const float *scores, int begin, int end, float largest) const
  {
    State out{largest, 0, std::vector<double> (stored_[0].value.size ()),
              std::vector<double> (stored_[0].value.size ())};
    std::vector<double> weights;
    double top = 0;
    for (int position = begin; position < end; ++position) {
      weights.push_back (std::exp (static_cast<double> (scores[position - begin] - largest)));
      out.sum += weights.back ();
      weights.back () *= stored_[static_cast<size_t> (position)].value_scale;
      top = std::max (top, weights.back ());
    }
    const double step = top / kMost;
    for (int position = begin; position < end; ++position) {
      double weight = weights[static_cast<size_t> (position - begin)], doubt = 0;
      if (problem_.type == KvType::kQ8) {
        const double digits = weight / step;
        if (std::fabs (digits - std::floor (digits) - 0.5) < digits * kWeightError)
          doubt = step;
        weight = std::nearbyint (digits) * step;
      }
      const auto &value = stored_[static_cast<size_t> (position)].value;
      for (size_t i = 0; i < value.size (); ++i) {
        out.values[i] += weight * value[i];
        out.doubts[i] += doubt * std::fabs (value[i]);
      }
    }
    return out;
  }

  const KvProblem &problem_;
  std::vector<StoredPosition> stored_;
};

// Keys and values of different sizes, those of neighbours too: each position has scales of its own.
KvProblem
problem_of (KvType type, int positions, int head_dim)
{
  KvProblem problem (positions, head_dim, kSeed, type);
  for (int position = 0; position < positions; ++position) {
    const float factor = std::array{1.0f, 1e-6f, 1e-3f, 0.1f}[static_cast<size_t> (position % 4)];
    auto &key = problem.keys[static_cast<size_t> (position)],
         &value = problem.values[static_cast<size_t> (position)];
    for (size_t i = 0; i < key.size (); ++i) {
      key[i] *= factor;
      value[i] *= factor;
    }
    problem.store (position, key, value);
  }
  return problem;
}

void
expect_prescribed (KvProblem problem, const std::vector<std::vector<int>> &tiles,
                   const std::vector<int> &windows)
{
  const Prescribed prescribed (problem);
  const KvProblem unrounded = problem.expanded ();
  const auto head_dim = static_cast<size_t> (problem.head_dim);
  for (const int window : windows) {
    for (const auto &ends : tiles) {
      const auto ranges = tile (ends, window);
      std::vector<State> expected;
      std::vector<std::vector<double>> exact;
      for (int query = 0; query < static_cast<int> (ranges.size ()); ++query) {
        expected.push_back (prescribed.attention (query, ranges[static_cast<size_t> (query)]));
        exact.push_back (unrounded.exact (query, ranges[static_cast<size_t> (query)]));
      }
      for (const KernelTable *table : kernel_tables ()) {
        const auto out = problem.run (*table, 0, ranges);
        for (size_t query = 0; query < ranges.size (); ++query) {
          SCOPED_TRACE (std::string (table->name) + ", " + kv_type_name (problem.type) + ", head of " +
                        std::to_string (head_dim) + ", positions from " +
                        std::to_string (ranges[query].begin) + " to " + std::to_string (ranges[query].end));
          const double rounding = 4 * prescribed.deviation (static_cast<int> (query)); // up to 3 are seen
          for (size_t i = 0; i < head_dim; ++i) {
            const float value = out[query * head_dim + i];
            ASSERT_NEAR (value, expected[query].values[i], 3e-6 + expected[query].doubts[i]) << i;
            ASSERT_NEAR (value, exact[query][i], rounding) << i;
          }
        }
      }
    }
  }
}

// One register tile, whose KV is read from memory, and more of them, which share it; of several splits, too.
TEST (AttentionBytes, give_what_is_prescribed_and_little_else_than_attention_without_rounding)
{
  for (const KvType type : {KvType::kQ8, KvType::kK8V4}) {
    for (const int head_dim : {6, 16, 48, 64, 80, 200, 1024})
      expect_prescribed (problem_of (type, 70, head_dim),
                         {{33, 33, 34, 70}, {67}, {57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70}},
                         {0, 7, 37});
    expect_prescribed (problem_of (type, 2700, 48),
                       {{2047, 2048, 2049, 2600}, {2700}, {1020, 1021, 1022, 1023, 1024, 1025, 1026, 1027}},
                       {0, 300, 1500});
  }
}

} // namespace
