// A model that computes nothing but remembers everything: for tests of what lies around the engine's kernels.
//
// Its KV cache holds the token ids themselves, in the scheduler's blocks; logits are a hash of all tokens up
// to the scored one, read back through the block tables. A wrong position, a wrong block, a block shared by
// mistake or a stale draft therefore changes the output. It can have window layers and recurrent ones beside
// the positional: their contents go into the hash too. Hidden states are made of the same hash.
#pragma once

#include "engine/kv/kv_layout.hpp"
#include "engine/model/model.hpp"

#include <cstring>
#include <memory>
#include <vector>

namespace millrace::testing
{

inline uint64_t
mix (uint64_t state, uint64_t value)
{
  state ^= value + 0x9e3779b97f4a7c15u + (state << 6) + (state >> 2);
  state *= 0xff51afd7ed558ccdu;
  return state ^ (state >> 33);
}

struct FakeOptions {
  int vocab = 64;
  int hidden = 8;
  int max_positions = 512;
  int period = 0; ///< > 0: the next token depends on the last `period` tokens only, so that text repeats
  int window = 0; ///< > 0: there is a window group
  bool recurrent = false;
};

inline KvLayout
fake_layout (const FakeOptions &options)
{
  KvLayout layout{{.block_bytes = kBlockTokens * sizeof (TokenId)}};
  if (options.window > 0)
    layout.push_back ({.kind = KvGroup::Kind::kWindow,
                       .window = options.window,
                       .block_bytes = kBlockTokens * sizeof (TokenId)});
  if (options.recurrent)
    layout.push_back ({.kind = KvGroup::Kind::kRecurrent, .block_bytes = 2 * sizeof (uint64_t)});
  return layout;
}

class FakeContext final : public ExecutionContext
{
public:
  FakeContext (const FakeOptions &options, const ContextOptions &context)
      : options_ (options)
      , layout_ (fake_layout (options))
      , max_tokens_ (context.max_tokens)
  {
    for (size_t g = 0; g < layout_.size (); g++)
      memory_.emplace_back (layout_[g].block_bytes * static_cast<size_t> (context.kv_blocks[g]),
                            std::byte{0xee});
  }

  void forward (std::span<const Slice> slices) override
  {
    passes++;
    for (const Slice &slice : slices) {
      const int count = static_cast<int> (slice.tokens.size ());
      tokens += count;
      // As layers do: all of the slice's positions are there before the first is read.
      for (size_t g = 0; g < layout_.size (); g++) {
        for (int i = 0; i < count && layout_[g].kind != KvGroup::Kind::kRecurrent; i++)
          cell (slice, g, slice.position + i) = slice.tokens[static_cast<size_t> (i)];
      }
      for (int i = 0; i < count; i++) {
        const uint64_t recurrent = step_recurrent (slice, i);
        const int scored = i - (count - slice.scored);
        if (scored < 0 && !slice.hidden)
          continue;
        const uint64_t state = state_after (slice, slice.position + i + 1, recurrent);
        if (scored >= 0)
          fill (state, options_.vocab,
                slice.logits + static_cast<size_t> (scored) * static_cast<size_t> (options_.vocab));
        if (slice.hidden)
          fill (mix (state, 77), options_.hidden,
                slice.hidden + static_cast<size_t> (i) * static_cast<size_t> (options_.hidden));
      }
    }
  }
  int max_tokens () const override { return max_tokens_; }

  void copy_block (int group, BlockId from, BlockId to) override
  {
    std::memcpy (at (group, to), at (group, from), bytes (group));
  }
  void clear_block (int group, BlockId block) override { std::memset (at (group, block), 0, bytes (group)); }
  void read_block (int group, BlockId block, std::span<std::byte> out) const override
  {
    std::memcpy (out.data (), at (group, block), bytes (group));
  }
  void write_block (int group, BlockId block, std::span<const std::byte> in) override
  {
    std::memcpy (at (group, block), in.data (), bytes (group));
  }

  int64_t passes = 0, tokens = 0;

private:
  size_t bytes (int group) const { return layout_[static_cast<size_t> (group)].block_bytes; }
  std::byte *at (int group, BlockId block)
  {
    return memory_[static_cast<size_t> (group)].data () + static_cast<size_t> (block) * bytes (group);
  }
  const std::byte *at (int group, BlockId block) const
  {
    return const_cast<FakeContext *> (this)->at (group, block);
  }

  TokenId &cell (const Slice &slice, size_t group, int position)
  {
    const BlockId block = slice.blocks[group][static_cast<size_t> (position / kBlockTokens)];
    return reinterpret_cast<TokenId *> (at (static_cast<int> (group), block))[position % kBlockTokens];
  }

  /// The state is a hash of the tokens so far, and how many: out of step it turns to garbage.
  uint64_t step_recurrent (const Slice &slice, int i)
  {
    if (!options_.recurrent)
      return 0;
    const size_t group = layout_.size () - 1;
    uint64_t state[2];
    std::byte *memory = at (static_cast<int> (group), slice.blocks[group][0]);
    std::memcpy (state, memory, sizeof state);
    if (state[1] != static_cast<uint64_t> (slice.position + i))
      state[0] = mix (state[0], 0xbad);
    state[0] = mix (state[0], static_cast<uint64_t> (slice.tokens[static_cast<size_t> (i)]));
    state[1] = static_cast<uint64_t> (slice.position + i + 1);
    std::memcpy (memory, state, sizeof state);
    return options_.period > 0 ? state[1] % 2 : state[0]; // text that repeats must forget
  }

  /// After the tokens in [0, length).
  uint64_t state_after (const Slice &slice, int length, uint64_t recurrent)
  {
    uint64_t state = mix (1, recurrent);
    const int first = options_.period > 0 ? std::max (0, length - options_.period) : 0;
    for (int i = first; i < length; i++)
      state = mix (state, static_cast<uint64_t> (cell (slice, 0, i)) +
                              (options_.period > 0 ? 0 : 1000 * static_cast<uint64_t> (i)));
    for (int i = std::max (first, length - options_.window); options_.window > 0 && i < length; i++)
      state = mix (state, static_cast<uint64_t> (cell (slice, 1, i)));
    return state;
  }

  static void fill (uint64_t state, int count, float *out)
  {
    for (int i = 0; i < count; i++)
      out[i] = static_cast<float> (mix (state, static_cast<uint64_t> (i)) % 100000) / 10000.0f;
  }

  FakeOptions options_;
  KvLayout layout_;
  int max_tokens_;
  std::vector<std::vector<std::byte>> memory_;
};

class FakeCompiled final : public CompiledModel
{
public:
  explicit FakeCompiled (const FakeOptions &options)
      : options_ (options)
  {
  }
  KvLayout kv_layout (KvType) const override { return fake_layout (options_); }
  std::string kv_identity () const override { return "fake " + std::to_string (options_.period); }
  size_t weight_bytes () const override { return 0; }
  std::string description () const override { return "fake"; }
  std::unique_ptr<ExecutionContext> create_context (const ContextOptions &options) const override
  {
    return std::make_unique<FakeContext> (options_, options);
  }

private:
  FakeOptions options_;
};

/// A model around FakeCompiled; without a tokenizer unless one is given.
inline std::shared_ptr<Model>
fake_model (const FakeOptions &options = {}, std::shared_ptr<const Tokenizer> tokenizer = nullptr)
{
  auto model = std::make_shared<Model> ();
  model->directory = "fake";
  model->spec.family = "fake";
  model->spec.vocab = options.vocab;
  model->spec.hidden = options.hidden;
  model->spec.max_positions = options.max_positions;
  model->compiled = std::make_shared<FakeCompiled> (options);
  model->tokenizer = std::move (tokenizer);
  return model;
}

} // namespace millrace::testing
