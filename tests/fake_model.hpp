// A model that computes nothing but remembers everything: for tests of what lies around the engine's kernels.
//
// Its KV cache holds the token ids themselves, in the scheduler's blocks; logits are a hash of all tokens up
// to the scored one, read back through the block table. A wrong position, a wrong block, a block shared by
// mistake or a stale draft therefore changes the output.
#pragma once

#include "engine/kv/block_pool.hpp"
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
  int max_positions = 512;
  int period = 0; ///< > 0: the next token depends on the last `period` tokens only, so that text repeats
};

/// Logits after the tokens in [0, length).
template <typename At>
void
fake_logits (const FakeOptions &options, At &&token_at, int length, float *logits)
{
  uint64_t state = 1;
  const int first = options.period > 0 ? std::max (0, length - options.period) : 0;
  for (int i = first; i < length; i++)
    state = mix (state, static_cast<uint64_t> (token_at (i)) + (options.period > 0 ? 0 : 1000 * i));
  for (int id = 0; id < options.vocab; id++)
    logits[id] = static_cast<float> (mix (state, id) % 100000) / 10000.0f;
}

class FakeContext final : public ExecutionContext
{
public:
  FakeContext (const FakeOptions &options, int kv_blocks, int max_tokens)
      : options_ (options)
      , blocks_ (kv_blocks)
      , max_tokens_ (max_tokens)
      , kv_ (static_cast<size_t> (kv_blocks) * kBlockTokens, -1)
  {
  }

  void forward (std::span<const Slice> slices) override
  {
    passes++;
    for (const Slice &slice : slices) {
      const auto cell = [&] (int position) -> TokenId & {
        return kv_[static_cast<size_t> (slice.blocks[position / kBlockTokens]) * kBlockTokens +
                   position % kBlockTokens];
      };
      const int count = static_cast<int> (slice.tokens.size ());
      tokens += count;
      for (int i = 0; i < count; i++)
        cell (slice.position + i) = slice.tokens[i];
      for (int i = 0; i < slice.scored; i++)
        fake_logits (options_, cell, slice.position + count - slice.scored + i + 1,
                     slice.logits + static_cast<size_t> (i) * options_.vocab);
    }
  }
  int max_tokens () const override { return max_tokens_; }
  int kv_blocks () const override { return blocks_; }

  int64_t passes = 0, tokens = 0;

private:
  FakeOptions options_;
  int blocks_, max_tokens_;
  std::vector<TokenId> kv_;
};

class FakeCompiled final : public CompiledModel
{
public:
  explicit FakeCompiled (const FakeOptions &options)
      : options_ (options)
  {
  }
  size_t kv_block_bytes () const override { return kBlockTokens * sizeof (TokenId); }
  size_t weight_bytes () const override { return 0; }
  std::string description () const override { return "fake"; }
  std::unique_ptr<ExecutionContext> create_context (int kv_blocks, int max_tokens) const override
  {
    return std::make_unique<FakeContext> (options_, kv_blocks, max_tokens);
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
  model->spec.max_positions = options.max_positions;
  model->compiled = std::make_shared<FakeCompiled> (options);
  model->tokenizer = std::move (tokenizer);
  return model;
}

} // namespace millrace::testing
