// labels: unit
//
// Attention of every instruction set and KV type: against double precision, with windows of all sizes and contexts of
// several splits, and the promises that neither tiles nor cuts change a bit, that nothing outside a window is read, and
// that what is computed with is what kv_storage.hpp says is stored.
#include "tests/kv_problem.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

using namespace millrace;
using namespace millrace::cpu;
using namespace millrace::testing;

namespace
{

constexpr uint32_t kSeed = 21;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN ();
constexpr float kInfinity = std::numeric_limits<float>::infinity ();
constexpr KvType kAllTypes[] = {KvType::kF32, KvType::kF16, KvType::kBF16, KvType::kQ8, KvType::kK8V4};
static_assert (std::size (kAllTypes) == kKvTypes);

constexpr int kWindows[] = {0, 1, 2, 5, 15, 16, 17, 31, 40, 69, 70, 1000};

std::string
described (const KernelTable &table, KvType type, int head_dim, int window)
{
  return std::string (table.name) + ", " + kv_type_name (type) + ", head of " + std::to_string (head_dim) +
         ", window " + std::to_string (window);
}

bool
same_bits (std::span<const float> a, std::span<const float> b)
{
  return a.size () == b.size () && std::memcmp (a.data (), b.data (), a.size_bytes ()) == 0;
}

TEST (Attention, is_that_of_double_precision_in_every_window)
{
  for (const KernelTable *table : kernel_tables ()) {
    for (const int head_dim : {6, 16, 64, 80}) {
      const KvProblem problem (70, head_dim, kSeed);
      for (const int window : kWindows) {
        for (const auto &ends : {std::vector<int>{33, 33, 34, 70}, {1, 2, 3, 4}, {16, 17, 47, 48}, {67}}) {
          const auto ranges = tile (ends, window);
          const auto out = problem.run (*table, 0, ranges);
          for (size_t query = 0; query < ranges.size (); ++query) {
            const auto expected = problem.exact (static_cast<int> (query), ranges[query]);
            for (int i = 0; i < head_dim; ++i)
              ASSERT_NEAR (out[query * static_cast<size_t> (head_dim) + static_cast<size_t> (i)], expected[i],
                           3e-6)
                  << described (*table, problem.type, head_dim, window) << ", query " << query << " at "
                  << ranges[query].end;
          }
        }
      }
    }
  }
}

// Scores here have a deviation of about 5: some are far above the first cap, and none near the last.
TEST (Attention, caps_scores)
{
  for (const KernelTable *table : kernel_tables ()) {
    for (const float softcap : {0.7f, 5.0f, 50.0f}) {
      for (const int window : {0, 5, 17}) {
        KvProblem problem (70, 64, kSeed + 8);
        problem.softcap = softcap;
        const auto ranges = tile ({33, 33, 34, 68, 69, 69, 70}, window);
        const auto out = problem.run (*table, 0, ranges);
        for (size_t query = 0; query < ranges.size (); ++query) {
          const auto expected = problem.exact (static_cast<int> (query), ranges[query]);
          for (size_t i = 0; i < 64; ++i)
            ASSERT_NEAR (out[query * 64 + i], expected[i], 2e-5)
                << described (*table, problem.type, 64, window) << ", cap " << softcap << ", query " << query;
        }
      }
    }
  }
}

TEST (Attention, has_the_same_bits_for_one_query_and_for_any_tile)
{
  std::mt19937 random (static_cast<uint32_t> (test_seed ()));
  const auto pick = [&] (int least, int most) {
    return std::uniform_int_distribution<int> (least, most) (random);
  };
  for (const KernelTable *table : kernel_tables ()) {
    for (const KvType type : kAllTypes) {
      KvProblem problem (90, 48, kSeed + 1, type);
      for (int round = 0; round < 60; ++round) {
        problem.softcap = round % 3 == 0 ? 4.0f : 0.0f;
        const int window = kWindows[pick (0, std::size (kWindows) - 1)];
        const int count = pick (1, round % 2 ? 16 : kQueryTile);
        std::vector<int> ends;
        for (int query = 0, end = pick (1, 90); query < count; ++query) {
          ends.push_back (end);
          end = std::min (90, end + (pick (0, 3) == 0 ? pick (0, 40) : pick (0, 1)));
        }
        const auto ranges = tile (ends, window);
        const auto together = problem.run (*table, 0, ranges);
        for (int query = 0; query < count; ++query) {
          const auto alone = problem.run (*table, query, {ranges[static_cast<size_t> (query)]});
          ASSERT_TRUE (same_bits (alone, std::span (together).subspan (static_cast<size_t> (query) * 48, 48)))
              << described (*table, type, 48, window) << ", query " << query << " at " << ends[query]
              << " in a tile from " << ends[0] << " to " << ends.back ();
        }
      }
    }
  }
}

// Blocks before the window have no id, and what lies around it in the window's own blocks is not a number.
TEST (Attention, reads_nothing_outside_the_window)
{
  const std::vector<float> poison (20, kNaN);
  for (const KernelTable *table : kernel_tables ()) {
    for (const KvType type : kAllTypes) {
      for (const int window : {1, 3, 15, 16, 33}) {
        for (const int end : {40, 48, 49}) {
          KvProblem problem (70, 20, kSeed + 2, type);
          // Two tokens of two heads.
          const auto ranges = tile ({end - 1, end - 1, end, end}, window);
          const auto expected = problem.run (*table, 0, ranges);
          const int begin = ranges.front ().begin;
          for (int position = 0; position < 70; ++position) {
            if (position < begin || position >= end)
              problem.store (position, poison, poison);
          }
          std::fill_n (problem.blocks.begin (), begin / kKvTokens, kNoBlock);
          const auto out = problem.run (*table, 0, ranges);
          EXPECT_TRUE (same_bits (out, expected)) << described (*table, type, 20, window) << ", up to " << end
                                                  << ": " << out[0] << " instead of " << expected[0];
        }
      }
    }
  }
}

constexpr int kLong = 4 * kAttentionSplit + 700;
constexpr int kLongWindows[] = {0, 1, 300, 1000, 1024, 1500, 3000};

TEST (Attention, is_that_of_double_precision_over_several_splits)
{
  const KvProblem problem (kLong, 48, kSeed + 5);
  for (const KernelTable *table : kernel_tables ()) {
    for (const int window : kLongWindows) {
      for (const auto &ends :
           {std::vector<int>{255, 256, 257}, {1023, 1024, 1025}, {2047, 2048, 4097, kLong}, {kLong}}) {
        const auto ranges = tile (ends, window);
        const auto out = problem.run (*table, 0, ranges);
        for (size_t query = 0; query < ranges.size (); ++query) {
          const auto expected = problem.exact (static_cast<int> (query), ranges[query]);
          for (size_t i = 0; i < 48; ++i)
            ASSERT_NEAR (out[query * 48 + i], expected[i], 5e-6)
                << described (*table, problem.type, 48, window) << ", query " << query << " at "
                << ranges[query].end;
        }
      }
    }
  }
}

TEST (Attention, has_the_same_bits_over_several_splits_alone_in_tiles_and_cut)
{
  std::mt19937 random (static_cast<uint32_t> (test_seed ()));
  const auto pick = [&] (int least, int most) {
    return std::uniform_int_distribution<int> (least, most) (random);
  };
  for (const KernelTable *table : kernel_tables ()) {
    for (const KvType type : kAllTypes) {
      const KvProblem problem (kLong, 32, kSeed + 6, type);
      for (int round = 0; round < 12; ++round) {
        const int window = kLongWindows[pick (0, std::size (kLongWindows) - 1)];
        // Neighbours, some of them around the end of a split.
        const int first = pick (0, 1) ? pick (1, kLong - 8) : pick (1, 4) * kAttentionSplit - pick (0, 8);
        std::vector<int> ends;
        for (int query = 0; query < pick (1, 20); ++query)
          ends.push_back (std::min (kLong, first + query / 2));
        const auto ranges = tile (ends, window);
        const auto together = problem.run (*table, 0, ranges);
        std::vector<int> cuts = {0};
        for (int split = 1; split < 6; ++split) {
          if (pick (0, 1))
            cuts.push_back (split);
        }
        SCOPED_TRACE (described (*table, type, 32, window) + ", ends from " + std::to_string (first));
        ASSERT_TRUE (same_bits (problem.run (*table, 0, ranges, cuts), together)) << "cut";
        for (size_t query = 0; query < ranges.size (); ++query) {
          const auto alone = problem.run (*table, static_cast<int> (query), {ranges[query]});
          ASSERT_TRUE (same_bits (alone, std::span (together).subspan (query * 32, 32))) << "query " << query;
        }
      }
    }
  }
}

// Those that are stored as bytes become no floats: engine_backend_attention_bytes.cpp.
TEST (Attention, computes_with_the_floats_that_are_stored)
{
  for (const KernelTable *table : kernel_tables ()) {
    for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kBF16}) {
      for (const int head_dim : {6, 16, 48, 64, 80}) {
        KvProblem problem (70, head_dim, kSeed + 3, type);
        for (int position = 0; position < 70; ++position) { // down to what is subnormal in float16
          const float factor = std::array{1.0f, 1e-6f, 1e-3f, 1e4f}[static_cast<size_t> (position % 4)];
          auto key = problem.keys[static_cast<size_t> (position)],
               value = problem.values[static_cast<size_t> (position)];
          for (int i = 0; i < head_dim; ++i) {
            key[static_cast<size_t> (i)] *= factor;
            value[static_cast<size_t> (i)] *= factor;
          }
          problem.store (position, key, value);
        }
        const KvProblem floats = problem.expanded ();
        for (const int window : {0, 7, 37}) {
          const auto ranges = tile ({33, 33, 34, 70}, window);
          EXPECT_TRUE (same_bits (problem.run (*table, 0, ranges), floats.run (*table, 0, ranges)))
              << described (*table, type, head_dim, window);
        }
      }
    }
  }
}

// Integers are the same everywhere; what is left is the rounding of exponentials and float sums.
TEST (Attention, every_set_gives_what_the_portable_kernel_gives)
{
  for (const KvType type : kAllTypes) {
    for (const int head_dim : {48, 80, 128}) {
      const KvProblem problem (600, head_dim, kSeed + 7, type);
      for (const auto &ends :
           {std::vector<int>{600}, {599, 599, 600, 600}, {30, 300, 301, 302, 303, 304, 600}}) {
        const auto ranges = tile (ends, 0);
        const auto expected = problem.run (kPortableKernels, 0, ranges);
        for (const KernelTable *table : kernel_tables ()) {
          const auto out = problem.run (*table, 0, ranges);
          for (size_t i = 0; i < out.size (); ++i)
            ASSERT_NEAR (out[i], expected[i], 3e-5) << described (*table, type, head_dim, 0) << " at " << i;
        }
      }
    }
  }
}

// Sums of the largest integers there can be: heads are so wide that 16 bits of a query would be too many.
TEST (Attention, sums_of_the_widest_heads_do_not_overflow)
{
  constexpr int kWide = 1024, kPositions = 40;
  for (const KernelTable *table : kernel_tables ()) {
    for (const KvType type : kAllTypes) {
      KvProblem problem (kPositions, kWide, kSeed + 9, type);
      std::ranges::fill (problem.queries, 1.0f);
      for (int position = 0; position < kPositions; ++position) {
        const bool is_seen = position % 2 == 0;
        problem.store (position, std::vector<float> (kWide, is_seen ? 1.0f : -1.0f),
                       std::vector<float> (kWide, is_seen ? 0.5f : 8.0f));
      }
      for (const float value : problem.run (*table, 0, {{0, kPositions}}))
        ASSERT_NEAR (value, 0.5f, 1e-3f) << described (*table, type, kWide, 0);
    }
  }
}

TEST (Attention, what_is_not_finite_gives_no_number)
{
  for (const KernelTable *table : kernel_tables ()) {
    for (const KvType type : kAllTypes) {
      for (const float value : {kNaN, kInfinity, -kInfinity, 3e38f}) {
        for (const bool in_key : {false, true}) {
          KvProblem problem (20, 40, kSeed + 4, type);
          auto key = problem.keys[5], row = problem.values[5];
          (in_key ? key : row)[3] = value;
          problem.store (5, key, row);
          const auto out = problem.run (*table, 0, {{0, 4}, {0, 20}});
          EXPECT_TRUE (std::isfinite (out[3])) << "position 5 is not seen yet";
          // An infinite score may be of weight 0, and a large number may still be in a type's range.
          if (std::isnan (value) || (std::isinf (value) && !in_key)) {
            EXPECT_FALSE (std::isfinite (out[40 + 3]))
                << described (*table, type, 40, 0) << ", " << value << (in_key ? " in a key" : " in a value");
          }
        }
      }
    }
  }
}

} // namespace
