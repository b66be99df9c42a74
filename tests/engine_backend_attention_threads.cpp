// labels: unit
//
// Attention of contexts of several splits through the backend: whatever shares the work, every bit is that of one thread
// that computes the whole sequence in one pass.
#include "tests/kernel_tables.hpp"
#include "tests/model_runner.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr int kVocab = 40, kTokens = 2300;
constexpr uint32_t kSeed = 71;

// One layer of attention, whose output is the hidden state.
RunnableModel
attention_model (int heads, int kv_heads, int head_dim, int window, const CpuOptions &cpu)
{
  const int width = heads * head_dim, kv_width = kv_heads * head_dim;
  Program program;
  program.vocab = kVocab;
  program.hidden = width;
  program.max_positions = kTokens;
  program.weights = {{"q", kVocab, width}, {"k", kVocab, kv_width}, {"v", kVocab, kv_width}};
  program.buffers = {{width}, {kv_width}, {kv_width}, {width}, {width, BufferRef::Rows::kOutput}};
  program.kv_layers = {{kv_heads, head_dim, window}};
  program.ropes = {{std::vector<float> (static_cast<size_t> (head_dim / 2), 0.01f), 1.0f}};
  program.ops = {EmbedOp{0, 0},
                 EmbedOp{1, 1},
                 EmbedOp{2, 2},
                 KvAppendOp{0, 0, 1, 2, heads, kNone, kNone, 1e-6f, 0},
                 AttentionOp{0, 0, 3, heads, 0.3f},
                 SelectOp{3, 4},
                 HiddenOp{4}};
  std::mt19937 random (kSeed);
  std::vector<SyntheticTensor> tensors;
  for (const auto &[name, columns] : {std::pair{"q", width}, {"k", kv_width}, {"v", kv_width}})
    tensors.push_back (
        {name,
         {kVocab, columns},
         DType::kF32,
         random_floats (static_cast<size_t> (kVocab) * static_cast<size_t> (columns), random)});
  TemporaryFolder folder;
  write_safetensors (folder.path () / "model.safetensors", tensors);
  RunnableModel model;
  model.spec.vocab = kVocab; // no operation computes logits
  model.spec.hidden = width;
  model.compiled =
      create_cpu_backend (cpu)->compile (program, WeightFiles::open (folder.path ()), {WeightFormat::kF32});
  return model;
}

std::vector<TokenId>
random_tokens ()
{
  std::mt19937 random (kSeed + 1);
  std::vector<TokenId> tokens (kTokens);
  for (TokenId &token : tokens)
    token = static_cast<TokenId> (random () % kVocab);
  return tokens;
}

struct Shape {
  int heads, kv_heads, head_dim, window;
  KvType type;
};

TEST (AttentionThreads, several_splits_give_the_same_bits_in_any_passes_by_any_threads)
{
  const auto tokens = random_tokens ();
  for (const auto isa : host_isas ()) {
    for (const Shape &shape : {Shape{2, 1, 16, 0, KvType::kF32}, Shape{4, 4, 8, 0, KvType::kQ8},
                               Shape{6, 2, 8, 1300, KvType::kF16}, Shape{14, 1, 6, 0, KvType::kK8V4}}) {
      const auto model = [&] (int threads) {
        return attention_model (shape.heads, shape.kv_heads, shape.head_dim, shape.window,
                                {.threads = threads, .isa = isa});
      };
      const auto alone = model (1);
      SequenceRunner whole (alone, kTokens, kTokens, shape.type);
      whole.run (tokens, kTokens);
      const auto expected = std::span (whole.outputs ().hidden);
      for (const int threads : {1, 2, 3, 7}) {
        const auto other = model (threads);
        SequenceRunner parts (other, kTokens, 700, shape.type);
        auto next = [&, at = size_t{0}] (size_t count, int chunk) mutable {
          parts.run (std::span (tokens).subspan (at, count), chunk);
          at += count;
        };
        next (1020, 700);
        next (12, 1); // around the end of a split
        next (900, 333);
        next (40, 4);
        next (325, 50);
        next (3, 1);
        ASSERT_EQ (parts.outputs ().hidden.size (), expected.size ());
        EXPECT_TRUE (same_bits (parts.outputs ().hidden, expected))
            << isa_name (isa) << ", " << shape.heads << " heads of " << shape.kv_heads << ", window "
            << shape.window << ", " << kv_type_name (shape.type) << ", " << threads << " threads";
      }
    }
  }
}

} // namespace
