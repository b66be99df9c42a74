// labels: property
//
// Convolution and recurrence against their formulas in double, at odd shapes, and the state that they leave: in one pass or token
// by token the same bits, with every instruction set; forked, cleared and carried to another context like any block.
#include "engine/backend/cpu/instruction_sets.hpp"
#include "engine/backend/cpu/kernels.hpp"
#include "tests/model_runner.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/seed.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace millrace;
using namespace millrace::testing;
using namespace millrace::cpu;

namespace
{

std::vector<float>
random_floats (std::mt19937_64 &random, size_t count, float deviation = 1)
{
  std::normal_distribution<float> normal (0, deviation);
  std::vector<float> values (count);
  for (float &value : values)
    value = normal (random);
  return values;
}

struct Convolution {
  int tokens, channels, taps;
  std::vector<float> x, inputs, weight, bias;

  Convolution (std::mt19937_64 &random, int tokens, int channels, int taps)
      : tokens (tokens)
      , channels (channels)
      , taps (taps)
      , x (random_floats (random, static_cast<size_t> (tokens * channels)))
      , inputs (random_floats (random, static_cast<size_t> ((taps - 1) * channels)))
      , weight (random_floats (random, static_cast<size_t> (taps * channels)))
      , bias (random_floats (random, static_cast<size_t> (channels)))
  {
  }

  // In passes of at most `pass` tokens.
  void run (const KernelTable &kernels, int pass)
  {
    for (int token = 0; token < tokens; token += pass) {
      ConvolutionArgs args;
      args.tokens = std::min (pass, tokens - token);
      args.channels = channels;
      args.taps = taps;
      args.x = x.data () + token * channels;
      args.x_stride = static_cast<size_t> (channels);
      args.inputs = inputs.data ();
      args.input_stride = static_cast<size_t> (channels);
      args.weight = weight.data ();
      args.bias = bias.data ();
      kernels.convolution (args);
    }
  }

  double expected (int token, int channel) const
  {
    double sum = bias[static_cast<size_t> (channel)];
    for (int tap = 0; tap < taps; ++tap) {
      const int at = token - (taps - 1) + tap;
      const size_t index = static_cast<size_t> ((at < 0 ? at + taps - 1 : at) * channels + channel);
      sum += static_cast<double> (weight[static_cast<size_t> (channel * taps + tap)]) *
             (at < 0 ? inputs[index] : x[index]);
    }
    return sum;
  }
};

TEST (Recurrence, convolutions_are_those_of_the_formula)
{
  std::mt19937_64 random (test_seed ());
  for (int round = 0; round < 300; ++round) {
    const auto below = [&] (int bound) {
      return static_cast<int> (random () % static_cast<uint64_t> (bound));
    };
    const Convolution given (random, 1 + below (30), 1 + below (kStateLanes), 1 + below (kMostTaps));
    std::vector<float> bits;
    for (const auto isa : host_isas ()) {
      const KernelTable &kernels = *kernels_of (isa);
      Convolution whole = given, single = given;
      whole.run (kernels, given.tokens);
      single.run (kernels, 1);
      ASSERT_TRUE (same_bits (whole.x, single.x));
      ASSERT_TRUE (same_bits (whole.inputs, single.inputs));
      for (int token = 0; token < given.tokens; ++token) {
        for (int channel = 0; channel < given.channels; ++channel)
          ASSERT_NEAR (whole.x[static_cast<size_t> (token * given.channels + channel)],
                       given.expected (token, channel), 2e-5);
      }
      if (bits.empty ())
        bits = whole.x;
      ASSERT_TRUE (same_bits (whole.x, bits)) << kernels.name;
    }
  }
}

struct Recurrence {
  bool delta;
  int tokens, keys, values;
  std::vector<float> state, q, k, v, decay, factor, out;
  float skip;

  Recurrence (std::mt19937_64 &random, bool delta, int tokens, int keys, int values)
      : delta (delta)
      , tokens (tokens)
      , keys (keys)
      , values (values)
      , state (random_floats (random, static_cast<size_t> (keys * kStateLanes)))
      , q (random_floats (random, static_cast<size_t> (tokens * keys)))
      , k (random_floats (random, static_cast<size_t> (tokens * keys),
                          1 / std::sqrt (static_cast<float> (keys))))
      , v (random_floats (random, static_cast<size_t> (tokens * values)))
      , out (static_cast<size_t> (tokens * values))
      , skip (random_floats (random, 1)[0])
  {
    std::uniform_real_distribution<float> uniform (0, 1);
    for (int token = 0; token < tokens; ++token) {
      decay.push_back (uniform (random));
      factor.push_back (uniform (random));
    }
  }

  void run (const KernelTable &kernels, int pass)
  {
    for (int token = 0; token < tokens; token += pass) {
      RecurrenceArgs args;
      args.delta = delta;
      args.tokens = std::min (pass, tokens - token);
      args.keys = keys;
      args.values = values;
      args.state = state.data ();
      args.q = q.data () + token * keys;
      args.k = k.data () + token * keys;
      args.v = v.data () + token * values;
      args.decay = decay.data () + token;
      args.factor = factor.data () + token;
      args.out = out.data () + token * values;
      args.q_stride = args.k_stride = static_cast<size_t> (keys);
      args.v_stride = args.out_stride = static_cast<size_t> (values);
      args.decay_stride = args.factor_stride = 1;
      args.skip = skip;
      kernels.recurrence (args);
    }
  }

  // As the paper has it: the state decays first, and then the change is of what it holds.
  std::vector<double> expected () const
  {
    std::vector<double> result;
    std::vector<double> s (state.begin (), state.end ());
    const auto at = [&] (int key, int value) -> double & {
      return s[static_cast<size_t> (key * kStateLanes + value)];
    };
    for (size_t token = 0; token < static_cast<size_t> (tokens); ++token) {
      const float *qs = q.data () + token * static_cast<size_t> (keys),
                  *ks = k.data () + token * static_cast<size_t> (keys);
      for (int value = 0; value < values; ++value) {
        const double x = v[token * static_cast<size_t> (values) + static_cast<size_t> (value)];
        double known = 0, sum = skip * x;
        for (int key = 0; key < keys; ++key) {
          at (key, value) *= decay[token];
          known += at (key, value) * ks[key];
        }
        const double change = factor[token] * (delta ? x - known : x);
        for (int key = 0; key < keys; ++key) {
          at (key, value) += ks[key] * change;
          sum += at (key, value) * qs[key];
        }
        result.push_back (sum);
      }
    }
    return result;
  }
};

TEST (Recurrence, recurrences_are_those_of_the_formula)
{
  std::mt19937_64 random (test_seed ());
  for (int round = 0; round < 300; ++round) {
    const auto below = [&] (int bound) {
      return static_cast<int> (random () % static_cast<uint64_t> (bound));
    };
    const Recurrence given (random, below (2) == 0, 1 + below (40), 1 + below (140), 1 + below (kStateLanes));
    const std::vector<double> expected = given.expected ();
    std::vector<float> bits;
    for (const auto isa : host_isas ()) {
      const KernelTable &kernels = *kernels_of (isa);
      Recurrence whole = given, single = given;
      whole.run (kernels, given.tokens);
      single.run (kernels, 1);
      ASSERT_TRUE (same_bits (whole.out, single.out));
      ASSERT_TRUE (same_bits (whole.state, single.state));
      for (size_t i = 0; i < expected.size (); ++i)
        ASSERT_NEAR (whole.out[i], expected[i], 2e-4) << given.keys << " keys, element " << i;
      if (bits.empty ())
        bits = whole.out;
      ASSERT_TRUE (same_bits (whole.out, bits)) << kernels.name;
    }
  }
}

constexpr const char *kConfig =
    R"({"model_type": "qwen3_5_text", "vocab_size": 41, "hidden_size": 24, "num_hidden_layers": 3,
"num_attention_heads": 2, "head_dim": 16, "intermediate_size": 32, "max_position_embeddings": 64,
"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "linear_value_head_dim": 39,
"layer_types": ["linear_attention", "linear_attention", "linear_attention"]})";

class State : public ::testing::Test
{
protected:
  State ()
  {
    write_random_model (folder_.path (), kConfig, 9);
    model_ = load_runnable (folder_.path (), WeightFormat::kAuto, {.threads = 2});
    layout_ = model_.compiled->kv_layout (KvType::kQ8);
    context_ = model_.compiled->create_context (context_options (4, 16, KvType::kQ8));
  }

  std::vector<float> run (ExecutionContext &context, std::vector<TokenId> tokens, int position, BlockId block)
  {
    std::vector<float> logits (static_cast<size_t> (model_.spec.vocab));
    const std::array<BlockId, 2> positional = {0, 1};
    Slice slice;
    slice.tokens = tokens;
    slice.position = position;
    slice.blocks = {std::span<const BlockId> (positional), std::span (&block, 1)};
    slice.scored = 1;
    slice.logits = logits.data ();
    context.forward ({&slice, 1});
    return logits;
  }

  TemporaryFolder folder_;
  RunnableModel model_;
  KvLayout layout_;
  std::unique_ptr<ExecutionContext> context_;
};

TEST_F (State, is_one_block_beside_a_group_of_nothing)
{
  ASSERT_EQ (layout_.size (), 2u);
  EXPECT_EQ (layout_[0], (KvGroup{}));
  EXPECT_EQ (layout_[1].kind, KvGroup::Kind::kRecurrent);
  // Of each layer 3 inputs of 2 · 12 + 156 channels, padded to 128 bytes, and 4 heads of 6 × 64.
  EXPECT_EQ (layout_[1].block_bytes, 3u * (2176 + 4 * 6 * 64 * 4));
  EXPECT_EQ (model_.compiled->kv_layout (KvType::kF32), layout_) << "states have one type";
  context_->copy_block (0, 0, 1);
  context_->clear_block (0, 1);
  context_->read_block (0, 0, {});
  context_->write_block (0, 0, {});
}

TEST_F (State, is_forked_cleared_and_carried_as_a_block)
{
  const auto after = run (*context_, {1, 2, 3}, 0, 2);
  context_->copy_block (1, 2, 0);
  const auto next = run (*context_, {4}, 3, 2);
  EXPECT_FALSE (same_bits (run (*context_, {4}, 4, 2), next)) << "the state has moved on";
  EXPECT_TRUE (same_bits (run (*context_, {4}, 3, 0), next));

  context_->clear_block (1, 0);
  EXPECT_TRUE (same_bits (run (*context_, {1, 2, 3}, 0, 0), after));

  std::vector<std::byte> bytes (layout_[1].block_bytes);
  context_->read_block (1, 0, bytes);
  const auto other = model_.compiled->create_context (context_options (2, 1, KvType::kQ8));
  other->write_block (1, 1, bytes);
  EXPECT_TRUE (same_bits (run (*other, {4}, 3, 1), next));
}

} // namespace
