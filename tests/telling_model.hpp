// A draft model that knows what will be said: for tests of what its guesses, right or wrong, do to a target of any kind.
//
// It is told whole sequences, prompts and answers. After tokens that one of them begins with, its logits leave only the next
// one, or, at some places, another. Everywhere else they are noise. It keeps its tokens in KV blocks as FakeContext does, so
// that a drafter which loses count of them guesses nonsense.
#pragma once

#include "tests/fake_model.hpp"

#include <algorithm>
#include <map>

namespace millrace::testing
{

/// What the model is told. Filled by the test, read in its passes, in one thread.
struct Told {
  int right_percent = 80;
  std::map<uint64_t, TokenId> next; ///< by the hash of all tokens before

  static uint64_t after (uint64_t state, TokenId token) { return mix (state, static_cast<uint64_t> (token)); }

  void tell (std::span<const TokenId> prompt, std::span<const TokenId> answer)
  {
    uint64_t state = 1;
    for (const TokenId token : prompt)
      state = after (state, token);
    for (const TokenId token : answer) {
      next[state] = token;
      state = after (state, token);
    }
  }
};

class TellingContext final : public ExecutionContext
{
public:
  TellingContext (std::shared_ptr<const Told> told, int vocab, const ContextOptions &context)
      : told_ (std::move (told))
      , vocab_ (vocab)
      , max_tokens_ (context.max_tokens)
      , cells_ (static_cast<size_t> (context.kv_blocks[0]) * kBlockTokens)
  {
  }

  void forward (std::span<const Slice> slices) override
  {
    for (const Slice &slice : slices) {
      const int count = static_cast<int> (slice.tokens.size ());
      for (int i = 0; i < count; ++i)
        cell (slice, slice.position + i) = slice.tokens[static_cast<size_t> (i)];
      uint64_t state = 1;
      for (int i = 0; i < slice.position + count - slice.scored; ++i)
        state = Told::after (state, cell (slice, i));
      for (int i = 0; i < slice.scored; ++i) {
        state = Told::after (state, cell (slice, slice.position + count - slice.scored + i));
        fill (state,
              std::span (slice.logits + static_cast<ptrdiff_t> (i) * vocab_, static_cast<size_t> (vocab_)));
      }
    }
  }
  int max_tokens () const override { return max_tokens_; }
  void copy_block (int, BlockId from, BlockId to) override
  {
    std::copy_n (cells_.begin () + from * kBlockTokens, kBlockTokens, cells_.begin () + to * kBlockTokens);
  }
  void clear_block (int, BlockId block) override
  {
    std::fill_n (cells_.begin () + block * kBlockTokens, kBlockTokens, 0);
  }
  void read_block (int, BlockId block, std::span<std::byte> out) const override
  {
    std::memcpy (out.data (), cells_.data () + block * kBlockTokens, out.size ());
  }
  void write_block (int, BlockId block, std::span<const std::byte> in) override
  {
    std::memcpy (cells_.data () + block * kBlockTokens, in.data (), in.size ());
  }

private:
  TokenId &cell (const Slice &slice, int position)
  {
    const BlockId block = slice.blocks[0][static_cast<size_t> (position / kBlockTokens)];
    return cells_[static_cast<size_t> (block * kBlockTokens + position % kBlockTokens)];
  }

  void fill (uint64_t state, std::span<float> logits) const
  {
    for (size_t i = 0; i < logits.size (); ++i)
      logits[i] = static_cast<float> (mix (state, i) % 1000) / 100;
    const auto found = told_->next.find (state);
    if (found == told_->next.end ())
      return;
    TokenId token = found->second;
    if (mix (state, 99) % 100 >= static_cast<uint64_t> (told_->right_percent))
      token = static_cast<TokenId> (mix (state, 98) % static_cast<uint64_t> (vocab_));
    logits[static_cast<size_t> (token)] = 1000;
  }

  std::shared_ptr<const Told> told_;
  int vocab_, max_tokens_;
  std::vector<TokenId> cells_;
};

class TellingCompiled final : public CompiledModel
{
public:
  TellingCompiled (std::shared_ptr<const Told> told, int vocab)
      : told_ (std::move (told))
      , vocab_ (vocab)
  {
  }
  KvLayout kv_layout (KvType) const override { return {{.block_bytes = kBlockTokens * sizeof (TokenId)}}; }
  std::string kv_identity () const override { return "telling"; }
  size_t weight_bytes () const override { return 0; }
  std::string description () const override { return "telling"; }
  std::unique_ptr<ExecutionContext> create_context (const ContextOptions &options) const override
  {
    return std::make_unique<TellingContext> (told_, vocab_, options);
  }

private:
  std::shared_ptr<const Told> told_;
  int vocab_;
};

inline std::shared_ptr<Model>
telling_model (std::shared_ptr<const Told> told, int vocab, int max_positions)
{
  auto model = std::make_shared<Model> ();
  model->directory = "telling";
  model->spec.family = "telling";
  model->spec.vocab = vocab;
  model->spec.max_positions = max_positions;
  model->compiled = std::make_shared<TellingCompiled> (std::move (told), vocab);
  return model;
}

} // namespace millrace::testing
