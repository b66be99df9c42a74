// A model that computes nothing and keeps nothing: what is left is what lies around it.
#pragma once

#include "engine/model/model.hpp"

#include <memory>

namespace millrace::bench
{

class EmptyContext final : public ExecutionContext
{
public:
  EmptyContext (int vocab, int max_tokens)
      : vocab_ (vocab)
      , max_tokens_ (max_tokens)
  {
  }
  /// The likeliest token is 7, always.
  void forward (std::span<const Slice> slices) override
  {
    for (const Slice &slice : slices) {
      for (int i = 0; i < slice.scored; i++)
        slice.logits[i * vocab_ + 7] = 1;
    }
  }
  int max_tokens () const override { return max_tokens_; }
  void copy_block (int, BlockId, BlockId) override {}
  void clear_block (int, BlockId) override {}
  void read_block (int, BlockId, std::span<std::byte>) const override {}
  void write_block (int, BlockId, std::span<const std::byte>) override {}

private:
  int vocab_, max_tokens_;
};

class EmptyCompiled final : public CompiledModel
{
public:
  EmptyCompiled (int vocab, size_t block_bytes)
      : vocab_ (vocab)
      , block_bytes_ (block_bytes)
  {
  }
  KvLayout kv_layout (KvType) const override { return {{.block_bytes = block_bytes_}}; }
  std::string kv_identity () const override { return "empty"; }
  size_t weight_bytes () const override { return 0; }
  std::string description () const override { return "empty"; }
  std::unique_ptr<ExecutionContext> create_context (const ContextOptions &options) const override
  {
    return std::make_unique<EmptyContext> (vocab_, options.max_tokens);
  }

private:
  int vocab_;
  size_t block_bytes_;
};

inline std::shared_ptr<Model>
empty_model (int vocab, int max_positions, size_t block_bytes)
{
  auto model = std::make_shared<Model> ();
  model->directory = "empty";
  model->spec.vocab = vocab;
  model->spec.max_positions = max_positions;
  model->compiled = std::make_shared<EmptyCompiled> (vocab, block_bytes);
  return model;
}

} // namespace millrace::bench
