// labels: unit
// Weights that are parts of a tensor are packed as if they were tensors of their own, and experts that no token chose are left
// alone.
#include "engine/backend/cpu/weights.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr int kMatrices = 3, kOutputs = 11, kInputs = 37;

/// The weight `plain`, and the same elements as `part` of another tensor.
void
expect_same_bytes (const std::vector<SyntheticTensor> &tensors, const WeightRef &plain, const WeightRef &part)
{
  const TemporaryFolder folder;
  write_safetensors (folder.path () / "model.safetensors", tensors);
  const WeightFiles files = WeightFiles::open (folder.path ());
  Program program;
  program.weights = {plain, part};
  ThreadPool pool (2);
  for (const WeightFormat format :
       {WeightFormat::kAuto, WeightFormat::kF32, WeightFormat::kF16, WeightFormat::kInt8}) {
    const cpu::PackedWeights weights (program, files, {format}, pool);
    const size_t bytes = weights[1].offset;
    ASSERT_EQ (weights.bytes (), 2 * bytes);
    EXPECT_TRUE (std::equal (weights[0].data, weights[0].data + bytes, weights[1].data))
        << part.name << ", format " << static_cast<int> (format);
  }
}

TEST (Experts, parts_of_tensors_are_packed_as_tensors_of_their_own)
{
  std::mt19937 random (5);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SyntheticTensor plain{"plain", {kOutputs, kInputs}, dtype, {}};
    for (int i = 0; i < kOutputs * kInputs; ++i)
      plain.values.push_back (static_cast<float> (random () % 255) - 127.0f);
    SyntheticTensor stacked{"stacked", {kMatrices, 2 * kOutputs, kInputs}, dtype, {}};
    SyntheticTensor transposed{"transposed", {kMatrices, kInputs, 2 * kOutputs}, dtype, {}};
    stacked.values.assign (size_t{kMatrices} * 2 * kOutputs * kInputs, 99);
    transposed.values = stacked.values;
    constexpr int64_t kMatrix = 2 * kOutputs * kInputs;
    for (int output = 0; output < kOutputs; ++output) {
      for (int input = 0; input < kInputs; ++input) {
        const float value = plain.values[static_cast<size_t> (output * kInputs + input)];
        stacked.values[static_cast<size_t> (kMatrix + (kOutputs + output) * kInputs + input)] = value;
        transposed.values[static_cast<size_t> (kMatrix + input * 2 * kOutputs + 2 * output + 1)] = value;
      }
    }
    const std::vector<SyntheticTensor> tensors = {plain, stacked, transposed};
    const WeightRef whole{.name = "plain", .outputs = kOutputs, .inputs = kInputs};
    expect_same_bytes (
        tensors, whole,
        {.name = "stacked",
         .outputs = kOutputs,
         .inputs = kInputs,
         .part = {.shape = stacked.shape, .first = kMatrix + kOutputs * kInputs, .output_step = kInputs}});
    expect_same_bytes (
        tensors, whole,
        {.name = "transposed",
         .outputs = kOutputs,
         .inputs = kInputs,
         .part = {
             .shape = transposed.shape, .first = kMatrix + 1, .output_step = 2, .input_step = 2 * kOutputs}});
  }
}

TEST (Experts, biases_may_take_turns_in_a_tensor)
{
  const std::vector<SyntheticTensor> tensors = {
      {"plain", {3}, DType::kBF16, {1, 2, 3}},
      {"turns", {2, 6}, DType::kBF16, {9, 9, 9, 9, 9, 9, 8, 1, 8, 2, 8, 3}}};
  expect_same_bytes (
      tensors, {.name = "plain", .outputs = 3},
      {.name = "turns", .outputs = 3, .part = {.shape = {2, 6}, .first = 7, .output_step = 2}});
}

// Three experts of one hidden element for tokens that are one-hot: expert e gives weight · relu (x)² · down.
TEST (Experts, those_that_no_token_chose_are_left_alone)
{
  const float nan = std::numeric_limits<float>::quiet_NaN ();
  const TemporaryFolder folder;
  write_safetensors (folder.path () / "model.safetensors",
                     {{"embedding", {3, 3}, DType::kF32, {1, 0, 0, 0, 1, 0, 0, 0, 1}},
                      {"router", {3, 3}, DType::kF32, {5, -5, 0, -5, 5, 0, -9, -9, 0}},
                      {"up0", {1, 3}, DType::kF32, {2, 0, 0}},
                      {"down0", {3, 1}, DType::kF32, {1, 2, 3}},
                      {"up1", {1, 3}, DType::kF32, {0, 3, 0}},
                      {"down1", {3, 1}, DType::kF32, {-1, 0, 1}},
                      {"up2", {1, 3}, DType::kF32, {nan, nan, nan}},
                      {"down2", {3, 1}, DType::kF32, {nan, nan, nan}}});
  Program program;
  program.vocab = program.hidden = 3;
  program.max_positions = 16;
  program.weights = {{"embedding", 3, 3}, {"router", 3, 3}, {"up0", 1, 3}, {"down0", 3, 1},
                     {"up1", 1, 3},       {"down1", 3, 1},  {"up2", 1, 3}, {"down2", 3, 1}};
  program.buffers = {{3}, {3}, {3}, {3}, {3, BufferRef::Rows::kOutput}};
  program.ops = {EmbedOp{0, 0},
                 LinearOp{0, {{1, kNone, 1, false}}},
                 RouteOp{.logits = 1, .out = 2, .experts = 3, .chosen = 1, .scale = 2},
                 ExpertsOp{.in = 0,
                           .weights = 2,
                           .out = 3,
                           .accumulate = false,
                           .intermediate = 1,
                           .chosen = 1,
                           .activation = GatedOp::Activation::kRelu,
                           .experts = {{kNone, 2, 3}, {kNone, 4, 5}, {kNone, 6, 7}}},
                 SelectOp{3, 4},
                 HiddenOp{4}};
  const auto model =
      create_cpu_backend ({.threads = 2})->compile (program, WeightFiles::open (folder.path ()), {});
  ContextOptions options;
  options.kv_blocks.fill (1);
  options.max_tokens = 8;
  const auto context = model->create_context (options);
  const std::vector<TokenId> tokens = {1, 0, 1};
  const std::vector<BlockId> table = {0};
  std::vector<float> hidden (9, -7);
  Slice slice;
  slice.tokens = tokens;
  slice.max_positions = 3;
  slice.blocks.fill (table);
  slice.hidden = hidden.data ();
  context->forward ({&slice, 1});
  const std::vector<float> expected = {-18, 0, 18, 8, 16, 24, -18, 0, 18};
  for (size_t i = 0; i < expected.size (); ++i)
    EXPECT_FLOAT_EQ (hidden[i], expected[i]) << i;
}

} // namespace
