// labels: unit
//
// The CPU backend's contract at its seam: what compile () refuses, what a context costs, and that a pass does
// not allocate.
#include "engine/backend/backend.hpp"
#include "engine/error.hpp"
#include "engine/weights/safetensors.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>

namespace
{

std::atomic<size_t> allocations = 0;

} // namespace

// Not inlined: the compiler would take malloc and delete for a mismatch.
[[gnu::noinline]] void *
operator new (size_t size)
{
  ++allocations;
  if (void *memory = std::malloc (size ? size : 1))
    return memory;
  throw std::bad_alloc ();
}

[[gnu::noinline]] void *
operator new (size_t size, const std::nothrow_t &) noexcept
{
  ++allocations;
  return std::malloc (size ? size : 1);
}

[[gnu::noinline]] void
operator delete (void *memory) noexcept
{
  std::free (memory);
}

[[gnu::noinline]] void
operator delete (void *memory, size_t) noexcept
{
  std::free (memory);
}

using namespace millrace;
using namespace millrace::testing;

namespace
{

// One embedding and one head: the smallest program with an output.
Program
tiny_program ()
{
  Program program;
  program.vocab = 4;
  program.hidden = 2;
  program.max_positions = 64;
  program.weights = {{"embedding", 4, 2}, {"norm", 2, 0}};
  program.buffers = {{2}, {2, BufferRef::Rows::kOutput}};
  program.kv_layers = {{1, 2}};
  program.ops = {EmbedOp{0, 0}, SelectOp{0, 1}, RmsNormOp{1, 1, 1, 1e-6f}, HiddenOp{1}, HeadOp{1, 0}};
  return program;
}

std::vector<SyntheticTensor>
tiny_tensors ()
{
  return {{"embedding", {4, 2}, DType::kF32, {1, 2, 3, 4, 5, 6, 7, 8}}, {"norm", {2}, DType::kF32, {1, 1}}};
}

class CpuBackendTest : public ::testing::Test
{
protected:
  std::unique_ptr<CompiledModel> compile (const Program &program, const std::vector<SyntheticTensor> &tensors,
                                          WeightFormat weights = WeightFormat::kAuto)
  {
    write_safetensors (folder_.path () / "model.safetensors", tensors);
    return create_cpu_backend ({.threads = 2})
        ->compile (program, WeightFiles::open (folder_.path ()), {weights});
  }

  std::string load_error (const std::vector<SyntheticTensor> &tensors)
  {
    try {
      compile (tiny_program (), tensors);
      return "no error";
    } catch (const LoadError &error) {
      return error.what ();
    }
  }

  TemporaryFolder folder_;
};

TEST_F (CpuBackendTest, a_missing_tensor_is_named)
{
  auto tensors = tiny_tensors ();
  tensors.pop_back ();
  EXPECT_NE (load_error (tensors).find ("norm"), std::string::npos) << load_error (tensors);
}

TEST_F (CpuBackendTest, a_misshapen_tensor_is_named)
{
  auto tensors = tiny_tensors ();
  tensors[0].shape = {2, 4};
  EXPECT_NE (load_error (tensors).find ("embedding"), std::string::npos) << load_error (tensors);
}

TEST_F (CpuBackendTest, a_tensor_that_does_not_hold_floats_is_named)
{
  std::string header = R"({"embedding":{"dtype":"I32","shape":[4,2],"data_offsets":[0,32]},)"
                       R"("norm":{"dtype":"F32","shape":[2],"data_offsets":[32,40]}})";
  const uint64_t length = header.size ();
  write_file (folder_.path () / "model.safetensors",
              std::string (reinterpret_cast<const char *> (&length), 8) + header + std::string (40, '\0'));
  try {
    create_cpu_backend ({.threads = 1})->compile (tiny_program (), WeightFiles::open (folder_.path ()), {});
    FAIL () << "no error";
  } catch (const LoadError &error) {
    EXPECT_EQ (error.field, "embedding");
    EXPECT_NE (std::string (error.what ()).find ("I32"), std::string::npos) << error.what ();
  }
}

TEST_F (CpuBackendTest, description_says_kernels_weights_and_threads)
{
  const auto model = compile (tiny_program (), tiny_tensors (), WeightFormat::kF16);
  const std::string description = model->description ();
  EXPECT_TRUE (description.starts_with ("cpu ")) << description;
  EXPECT_NE (description.find ("f16 weights, 2 threads"), std::string::npos) << description;
  EXPECT_GT (model->weight_bytes (), 0u);
}

TEST_F (CpuBackendTest, hidden_states_and_logits_of_wanted_rows_are_written_and_no_others)
{
  const auto model = compile (tiny_program (), tiny_tensors ());
  auto context = model->create_context ({.kv_blocks = {2}, .max_tokens = 8});
  EXPECT_EQ (context->max_tokens (), 8);
  const std::vector<TokenId> tokens = {3, 0, 2};
  const std::vector<BlockId> blocks = {1};
  std::vector<float> logits (3 * 4, -7), hidden (4 * 2, -7);
  Slice slices[2];
  slices[0] = {.tokens = tokens, .position = 0, .blocks = {blocks}, .scored = 2, .logits = logits.data ()};
  slices[1] = {.tokens = tokens, .position = 0, .blocks = {blocks}, .hidden = hidden.data ()};
  context->forward ({&slices[1], 1});
  context->forward ({&slices[0], 1});

  const float embedding[4][2] = {{1, 2}, {3, 4}, {5, 6}, {7, 8}};
  for (size_t row = 0; row < 3; ++row) {
    const float *x = embedding[tokens[row]];
    const float scale = 1 / std::sqrt ((x[0] * x[0] + x[1] * x[1]) / 2 + 1e-6f);
    EXPECT_NEAR (hidden[2 * row], x[0] * scale, 1e-6);
    EXPECT_NEAR (hidden[2 * row + 1], x[1] * scale, 1e-6);
    for (size_t id = 0; row > 0 && id < 4; ++id)
      EXPECT_NEAR (logits[(row - 1) * 4 + id], (x[0] * embedding[id][0] + x[1] * embedding[id][1]) * scale,
                   1e-5);
  }
  EXPECT_EQ (hidden[6], -7);
  EXPECT_EQ (logits[8], -7);
}

TEST_F (CpuBackendTest, a_pass_without_tokens_does_nothing)
{
  const auto model = compile (tiny_program (), tiny_tensors ());
  auto context = model->create_context ({.kv_blocks = {1}, .max_tokens = 1});
  EXPECT_NO_THROW (context->forward ({}));
}

TEST_F (CpuBackendTest, a_context_outlives_its_model)
{
  auto model = compile (tiny_program (), tiny_tensors ());
  auto context = model->create_context ({.kv_blocks = {1}, .max_tokens = 1});
  model.reset ();
  const TokenId token = 1;
  const BlockId block = 0;
  std::vector<float> logits (4);
  const Slice slice = {
      .tokens = {&token, 1}, .blocks = {{{&block, 1}}}, .scored = 1, .logits = logits.data ()};
  context->forward ({&slice, 1});
  EXPECT_GT (logits[3], 0);
}

TEST_F (CpuBackendTest, kv_memory_that_cannot_be_had_is_bad_alloc)
{
  Program program = tiny_program ();
  program.kv_layers.assign (100, {64, 1024}); // 100 · 64 · 1024 · 16 · 2 · 4 bytes a block
  const auto model = compile (program, tiny_tensors ());
  EXPECT_EQ (model->kv_layout (KvType::kF32)[0].block_bytes, 100u * 64 * 1024 * 16 * 2 * 4);
  EXPECT_THROW (model->create_context ({.kv_blocks = {std::numeric_limits<int>::max ()}, .max_tokens = 1}),
                std::bad_alloc);
}

TEST_F (CpuBackendTest, contexts_without_room_are_refused)
{
  const auto model = compile (tiny_program (), tiny_tensors ());
  EXPECT_THROW (model->create_context ({.kv_blocks = {0}, .max_tokens = 1}), std::invalid_argument);
  EXPECT_THROW (model->create_context ({.kv_blocks = {1}, .max_tokens = 0}), std::invalid_argument);
}

TEST_F (CpuBackendTest, the_environment_chooses_the_instruction_set)
{
  setenv ("MILLRACE_ISA", "portable", 1);
  const auto model = compile (tiny_program (), tiny_tensors ());
  setenv ("MILLRACE_ISA", "abacus", 1);
  EXPECT_THROW (create_cpu_backend ({}), std::invalid_argument);
  EXPECT_NO_THROW (create_cpu_backend ({.threads = 1, .isa = CpuOptions::Isa::kPortable}));
  unsetenv ("MILLRACE_ISA");
  EXPECT_TRUE (model->description ().starts_with ("cpu portable,")) << model->description ();
}

// With everything a layer has, in every format.
Program
one_layer_program ()
{
  Program program;
  program.vocab = 40;
  program.hidden = 36;
  program.max_positions = 64;
  program.weights = {{"embedding", 40, 36}, {"norm", 36, 0}, {"square", 36, 36}};
  program.buffers = {{36}, {36}, {36}, {36}, {36}, {36, BufferRef::Rows::kOutput}};
  program.kv_layers = {{3, 12}};
  program.ropes = {{{1.0f, 0.1f, 0.01f}, 1.0f}};
  program.ops = {
      EmbedOp{0, 0},
      RmsNormOp{0, 1, 1, 1e-6f},
      LinearOp{1, {{2, 1, 2, false}, {2, kNone, 3, false}, {2, kNone, 4, false}}},
      KvAppendOp{0, 2, 3, 4, 3, kNone, kNone, 1e-6f, 0},
      AttentionOp{0, 2, 1, 3, 0.3f},
      LinearOp{1, {{2, kNone, 0, true}}},
      GatedOp{GatedOp::Activation::kSilu, 0, 0, 0, 36},
      SelectOp{0, 5},
      HiddenOp{5},
      HeadOp{5, 0},
  };
  return program;
}

TEST_F (CpuBackendTest, a_pass_does_not_allocate)
{
  std::mt19937 random (5);
  std::normal_distribution<float> normal;
  std::vector<SyntheticTensor> tensors = {
      {"embedding", {40, 36}, DType::kF32, std::vector<float> (40 * 36)},
      {"norm", {36}, DType::kF32, std::vector<float> (36)},
      {"square", {36, 36}, DType::kF32, std::vector<float> (36 * 36)},
  };
  for (SyntheticTensor &tensor : tensors) {
    for (float &value : tensor.values)
      value = normal (random);
  }
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kBF16, KvType::kQ8, KvType::kK8V4}) {
    const auto format = type == KvType::kF32 ? WeightFormat::kF32 : WeightFormat::kInt8;
    const auto model = compile (one_layer_program (), tensors, format);
    auto context = model->create_context ({.kv_type = type, .kv_blocks = {8}, .max_tokens = 60});
    const std::vector<TokenId> tokens (30, 7);
    const std::vector<BlockId> blocks[2] = {{0, 1}, {2, 3}};
    std::vector<float> logits (2 * 30 * 40), hidden (30 * 36);
    Slice slices[2];
    for (int i = 0; i < 2; ++i)
      slices[i] = {
          .tokens = tokens, .blocks = {blocks[i]}, .scored = 30, .logits = logits.data () + i * 30 * 40};
    slices[0].hidden = hidden.data ();
    const size_t before = allocations;
    context->forward (slices); // even the first and largest
    for (int i = 0; i < 2; ++i)
      slices[i] = {.tokens = {tokens.data (), 1},
                   .position = 30,
                   .blocks = {blocks[i]},
                   .scored = 1,
                   .logits = logits.data () + i * 40};
    context->forward (slices);
    EXPECT_EQ (allocations - before, 0u);
    EXPECT_TRUE (std::isfinite (logits[0]));
  }
}

} // namespace
