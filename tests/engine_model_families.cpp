// labels: property
// timeout: 600
//
// Every family at shapes that nobody has trained: random weights of the names and shapes that its program asks for, odd
// sizes, windows of half a block. What is checked is that each runs and keeps the promise of backend.hpp: alone, in random
// batches, chunks and block tables, on any number of threads and with any kind of KV and weights the bits are the same.
// That the numbers are right is for the oracles to say.
#include "engine/model/families/families.hpp"
#include "tests/family_configs.hpp"
#include "tests/random_batches.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/seed.hpp"
#include "tests/test_paths.hpp"

#include <cmath>
#include <map>
#include <set>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

class Families : public ::testing::TestWithParam<std::string>
{
protected:
  void SetUp () override { write_random_model (folder_.path (), family_config (GetParam ()), 51); }

  const fs::path &folder () const { return folder_.path (); }

private:
  TemporaryFolder folder_;
};

TEST_P (Families, has_the_same_bits_alone_batched_chunked_and_threaded)
{
  const auto seed = static_cast<uint32_t> (test_seed ());
  for (const auto isa : host_isas ()) {
    for (const auto &[weights, kv] : {std::pair{WeightFormat::kAuto, KvType::kF32},
                                      {WeightFormat::kInt8, KvType::kQ8},
                                      {WeightFormat::kInt4, KvType::kF16}}) {
      std::mt19937 random (seed);
      const auto reference = load_runnable (folder (), weights, {.threads = 1, .isa = isa});
      const auto alone = run_alone (reference, {1, 5, 19, 62}, random, kv);
      for (const Alone &sequence : alone)
        ASSERT_TRUE (
            std::ranges::all_of (sequence.outputs.logits, [] (float x) { return std::isfinite (x); }));
      for (const int threads : {1, 3}) {
        SCOPED_TRACE (std::string (isa_name (isa)) + ", " + kv_type_name (kv) + ", " +
                      std::to_string (threads) + " threads");
        const auto model = load_runnable (folder (), weights, {.threads = threads, .isa = isa});
        RandomBatches (model, alone, random, kv).run ();
      }
    }
  }
}

// Portable and vector kernels are different code for the same sums.
TEST_P (Families, is_about_the_same_with_every_instruction_set)
{
  std::vector<float> expected;
  for (const auto isa : host_isas ()) {
    std::mt19937 random (7);
    const auto model = load_runnable (folder (), WeightFormat::kF32, {.threads = 2, .isa = isa});
    const auto logits = run_alone (model, {50}, random).front ().outputs.logits;
    if (expected.empty ())
      expected = logits;
    EXPECT_LE (largest_difference (logits, expected), 1e-3f) << isa_name (isa);
  }
}

// What a sequence has been told later changes nothing before it, and what is before it does.
TEST_P (Families, looks_back_only)
{
  const auto model = load_runnable (folder (), WeightFormat::kAuto, {.threads = 2});
  const auto logits_of = [&] (std::vector<TokenId> tokens) {
    const int count = static_cast<int> (tokens.size ());
    SequenceRunner runner (model, count, count);
    runner.run (tokens, count);
    return runner.outputs ().logits;
  };
  std::vector<TokenId> tokens;
  for (int i = 0; i < 30; ++i)
    tokens.push_back (i * 7 % model.spec.vocab);
  const auto before = logits_of (tokens);
  tokens[20] = tokens[20] + 1;
  const auto after = logits_of (tokens);
  const auto vocab = static_cast<size_t> (model.spec.vocab);
  EXPECT_TRUE (same_bits (std::span (before).first (20 * vocab), std::span (after).first (20 * vocab)));
  EXPECT_FALSE (same_bits (std::span (before).subspan (20 * vocab, vocab),
                           std::span (after).subspan (20 * vocab, vocab)));
  EXPECT_FALSE (same_bits (std::span (before).last (vocab), std::span (after).last (vocab)));
}

std::vector<std::string>
names ()
{
  std::vector<std::string> result;
  for (const auto &[name, more] : family_configurations ())
    result.push_back (name);
  return result;
}

INSTANTIATE_TEST_SUITE_P (engine, Families, ::testing::ValuesIn (names ()), [] (const auto &info) {
  std::string name = info.param;
  std::ranges::replace_if (
      name, [] (char c) { return !std::isalnum (static_cast<unsigned char> (c)); }, '_');
  return name;
});

TEST (FamilyTable, every_family_is_tested_here)
{
  std::set<std::string> tested;
  for (const std::string &name : names ())
    tested.insert (family_of (name));
  for (const Family &family : families ())
    EXPECT_TRUE (family.wrapper || tested.contains (std::string (family.model_type))) << family.model_type;
}

} // namespace
