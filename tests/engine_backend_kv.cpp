// labels: unit
//
// KV as the backend's seam shows it: groups and sizes of blocks, what storing a row costs in accuracy, blocks as
// bytes, and the identity by which kept blocks are known again.
#include "engine/backend/cpu/kv_storage.hpp"
#include "engine/tensor/dtype.hpp"
#include "engine/weights/safetensors.hpp"
#include "tests/kernel_tables.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <thread>

using namespace millrace;
using namespace millrace::cpu;
using namespace millrace::testing;

namespace
{

constexpr uint32_t kSeed = 41;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN ();
constexpr KvType kAllTypes[] = {KvType::kF32, KvType::kF16, KvType::kBF16, KvType::kQ8, KvType::kK8V4};

// What comes back of a key and a value, stored in slot 5 of a block.
struct Stored {
  Stored (KvType type, const std::vector<float> &row)
  {
    const int head_dim = static_cast<int> (row.size ());
    Program program;
    program.kv_layers = {{1, head_dim}};
    const KvPlan plan = plan_kv (program, type);
    const KvPlace &place = plan.places[0];
    std::vector<std::byte> blocks (group_bytes (plan.groups[0], 1));
    std::byte *key_data = blocks.data () + keys_of_block (plan, place, 0),
              *value_data = blocks.data () + values_of_block (plan, place, 0);
    store_key (kPortableKernels, type, row.data (), head_dim, 5, key_data);
    store_value (kPortableKernels, type, row.data (), head_dim, place.value_width, 5, value_data);
    std::vector<float> scratch (static_cast<size_t> (kKvTokens * place.value_width));
    const float *keys = expand_keys (type, key_data, head_dim, scratch.data ());
    for (int i = 0; i < head_dim; ++i)
      key.push_back (keys[i * kKvTokens + 5]);
    const float *values = expand_values (type, value_data, place.value_width, scratch.data ());
    value.assign (values + 5 * place.value_width, values + 5 * place.value_width + head_dim);
  }

  std::vector<float> key, value;
};

TEST (KvStorage, error_of_a_stored_row_is_within_half_a_step)
{
  std::mt19937 random (kSeed);
  for (const int head_dim : {1, 6, 31, 32, 33, 64, 80, 128}) {
    for (const float deviation : {1e-3f, 1.0f, 100.0f}) {
      auto row = random_floats (static_cast<size_t> (head_dim), random, deviation);
      for (float &value : row)
        value += deviation; // the minimum of a group is not near zero, the largest magnitude is positive
      float largest = 0;
      for (const float value : row)
        largest = std::max (largest, std::fabs (value));
      for (const KvType type : kAllTypes) {
        SCOPED_TRACE (std::string (kv_type_name (type)) + ", " + std::to_string (head_dim) + " of " +
                      std::to_string (deviation));
        const Stored stored (type, row);
        for (size_t i = 0; i < row.size (); ++i) {
          const float magnitude = std::fabs (row[i]);
          switch (type) {
          case KvType::kF32:
            EXPECT_EQ (stored.key[i], row[i]);
            EXPECT_EQ (stored.value[i], row[i]);
            break;
          case KvType::kF16:
            EXPECT_LE (std::fabs (stored.key[i] - row[i]), magnitude * 0x1p-11f + 0x1p-25f);
            EXPECT_EQ (stored.value[i], stored.key[i]);
            break;
          case KvType::kBF16:
            EXPECT_LE (std::fabs (stored.key[i] - row[i]), magnitude * 0x1p-8f);
            EXPECT_EQ (stored.value[i], stored.key[i]);
            break;
          case KvType::kQ8:
            EXPECT_LE (std::fabs (stored.key[i] - row[i]), largest / 127 * 0.5001f);
            EXPECT_EQ (stored.value[i], stored.key[i]);
            break;
          case KvType::kK8V4: {
            EXPECT_LE (std::fabs (stored.key[i] - row[i]), largest / 127 * 0.5001f);
            const auto begin = row.begin () + static_cast<int> (i) / kKvGroup * kKvGroup;
            const auto end = std::min (begin + kKvGroup, row.end ());
            const float least = *std::min_element (begin, end),
                        range = *std::max_element (begin, end) - least;
            // Half a step, and what float16 makes of scale (15 times) and minimum.
            EXPECT_LE (std::fabs (stored.value[i] - row[i]),
                       range / 15 * 0.5001f + (range + std::fabs (least)) * 0x1p-11f + 16 * 0x1p-25f);
            break;
          }
          }
        }
      }
    }
  }
}

TEST (KvStorage, every_float16_is_read_as_what_it_is)
{
  for (uint32_t first = 0; first < 0x10000u; first += kKvTokens) {
    uint16_t halves[kKvTokens];
    for (uint32_t i = 0; i < kKvTokens; ++i)
      halves[i] = static_cast<uint16_t> (first + i);
    float out[kKvTokens];
    expand_keys (KvType::kF16, reinterpret_cast<const std::byte *> (halves), 1, out);
    for (uint32_t i = 0; i < kKvTokens; ++i)
      ASSERT_EQ (std::bit_cast<uint32_t> (out[i]), std::bit_cast<uint32_t> (f16_to_f32 (halves[i])))
          << halves[i];
  }
}

TEST (KvStorage, zeros_tiny_rows_and_constant_rows_come_back)
{
  for (const KvType type : kAllTypes) {
    for (const float value : {0.0f, -0.0f, 1e-38f, -3e-39f, 0.25f, -2.0f}) {
      const Stored stored (type, std::vector<float> (40, value));
      for (size_t i = 0; i < 40; ++i) {
        EXPECT_NEAR (stored.key[i], value, 1e-7) << kv_type_name (type);
        EXPECT_NEAR (stored.value[i], value, 1e-7) << kv_type_name (type);
      }
    }
  }
}

// Whatever is stored: no undefined conversion (the sanitizers watch), and nothing that is not finite turns into a
// number.
TEST (KvStorage, a_row_that_is_not_finite_comes_back_as_such)
{
  const float infinity = std::numeric_limits<float>::infinity ();
  for (const KvType type : kAllTypes) {
    for (const float value : {kNaN, infinity, -infinity}) {
      std::vector<float> row (40, 0.5f);
      row[33] = value;
      const Stored stored (type, row);
      EXPECT_FALSE (std::isfinite (stored.key[33])) << kv_type_name (type) << " " << value;
      EXPECT_FALSE (std::isfinite (stored.value[33])) << kv_type_name (type) << " " << value;
    }
    for (const float value : {3.4e38f, 1e30f, 65520.0f, 1e-45f}) {
      std::vector<float> row (40, -value);
      row[33] = value;
      const Stored stored (type, row);
      for (const float out : {stored.key[33], stored.value[33]}) {
        EXPECT_TRUE (!std::isfinite (out) || std::fabs (out - value) <= value * 0.01f + 1e-30f)
            << kv_type_name (type) << " " << value << " as " << out;
      }
    }
  }
}

Program
program_with (std::vector<KvLayer> layers)
{
  Program program;
  program.kv_layers = std::move (layers);
  return program;
}

TEST (KvLayout, layers_of_a_window_share_a_group_in_order_of_first_appearance)
{
  const Program program = program_with ({{2, 16, 100}, {2, 16}, {1, 16, 7}, {2, 16, 100}, {2, 16}});
  const KvPlan plan = plan_kv (program, KvType::kF32);
  const size_t head = 2 * 16 * 16 * sizeof (float);
  ASSERT_EQ (plan.groups.size (), 3u);
  EXPECT_EQ (plan.groups[0], (KvGroup{KvGroup::Kind::kPositional, 0, 4 * head}));
  EXPECT_EQ (plan.groups[1], (KvGroup{KvGroup::Kind::kWindow, 100, 4 * head}));
  EXPECT_EQ (plan.groups[2], (KvGroup{KvGroup::Kind::kWindow, 7, head}));
  std::vector<int> groups;
  for (const KvPlace &place : plan.places)
    groups.push_back (place.group);
  EXPECT_EQ (groups, (std::vector<int>{1, 0, 2, 1, 0}));
}

TEST (KvLayout, group_0_is_there_without_layers)
{
  const KvPlan plan = plan_kv (program_with ({{2, 16, 8}}), KvType::kF32);
  ASSERT_EQ (plan.groups.size (), 2u);
  EXPECT_EQ (plan.groups[0], KvGroup{});
  EXPECT_EQ (plan_kv (Program{}, KvType::kQ8).groups, KvLayout{KvGroup{}});
}

TEST (KvLayout, more_windows_than_groups_are_refused)
{
  std::vector<KvLayer> layers;
  for (int window = 1; window < kMaxKvGroups; ++window)
    layers.push_back ({1, 16, window});
  EXPECT_EQ (plan_kv (program_with (layers), KvType::kF32).groups.size (), size_t{kMaxKvGroups});
  layers.push_back ({1, 16, kMaxKvGroups});
  EXPECT_THROW (plan_kv (program_with (layers), KvType::kF32), std::invalid_argument);
}

TEST (KvLayout, sizes_are_those_of_elements_and_scales)
{
  const Program program = program_with ({{4, 64}, {4, 64}});
  const auto bytes = [&] (KvType type) { return plan_kv (program, type).groups[0].block_bytes; };
  const size_t heads = 8, elements = 64 * kBlockTokens; // of a head's keys, or values
  EXPECT_EQ (bytes (KvType::kF32), heads * 2 * elements * 4);
  EXPECT_EQ (bytes (KvType::kF16), heads * 2 * elements * 2);
  EXPECT_EQ (bytes (KvType::kBF16), heads * 2 * elements * 2);
  EXPECT_EQ (bytes (KvType::kQ8), heads * 2 * (elements + kBlockTokens * 4)); // 26.6 % of kF32
  // Half a byte an element; scale and minimum of 2 bytes for each 32.
  EXPECT_EQ (bytes (KvType::kK8V4), heads * (elements + kBlockTokens * 4 + elements / 2 + elements / 32 * 4));
}

// One layer of attention with a window and one without, and a head.
class KvBlocks : public ::testing::Test
{
protected:
  static constexpr int kWidth = 24, kVocab = 20;

  KvBlocks ()
  {
    program_.vocab = kVocab;
    program_.hidden = kWidth;
    program_.max_positions = 256;
    program_.weights = {{"embedding", kVocab, kWidth}, {"square", kWidth, kWidth}};
    program_.buffers = {{kWidth}, {kWidth}, {kWidth}, {kWidth}, {kWidth, BufferRef::Rows::kOutput}};
    program_.kv_layers = {{2, 12, 20}, {2, 12}};
    program_.ropes = {{{1.0f, 0.1f}, 1.0f}};
    program_.ops.emplace_back (EmbedOp{0, 0});
    for (const KvLayerId layer : {0, 1}) {
      program_.ops.emplace_back (
          LinearOp{0, {{1, kNone, 1, false}, {1, kNone, 2, false}, {1, kNone, 3, false}}});
      program_.ops.emplace_back (KvAppendOp{layer, 1, 2, 3, 2, kNone, kNone, 1e-6f, 0});
      program_.ops.emplace_back (AttentionOp{layer, 1, 0, 2, 0.3f});
    }
    program_.ops.emplace_back (SelectOp{0, 4});
    program_.ops.emplace_back (HeadOp{4, 0});
    std::mt19937 random (kSeed + 1);
    tensors_ = {{"embedding", {kVocab, kWidth}, DType::kF32, random_floats (kVocab * kWidth, random)},
                {"square", {kWidth, kWidth}, DType::kF32, random_floats (kWidth * kWidth, random, 0.3f)}};
  }

  std::unique_ptr<CompiledModel> compile (WeightFormat format = WeightFormat::kAuto,
                                          const CpuOptions &cpu = {}) const
  {
    write_safetensors (folder_.path () / "model.safetensors", tensors_);
    return create_cpu_backend (cpu)->compile (program_, WeightFiles::open (folder_.path ()), {format});
  }

  // Logits of `tokens` at `position`, with block i of the sequence in block first + i.
  static std::vector<float> forward (ExecutionContext &context, std::span<const TokenId> tokens, int position,
                                     BlockId first)
  {
    std::vector<BlockId> blocks (4);
    for (int i = 0; i < 4; ++i)
      blocks[static_cast<size_t> (i)] = first + i;
    std::vector<float> logits (tokens.size () * kVocab);
    Slice slice;
    slice.tokens = tokens;
    slice.position = position;
    slice.blocks = {blocks, blocks};
    slice.scored = static_cast<int> (tokens.size ());
    slice.logits = logits.data ();
    context.forward ({&slice, 1});
    return logits;
  }

  Program program_;
  std::vector<SyntheticTensor> tensors_;
  TemporaryFolder folder_;
};

TEST_F (KvBlocks, copied_or_read_and_written_elsewhere_they_give_the_same_logits)
{
  const auto model = compile ();
  std::vector<TokenId> tokens (56);
  for (size_t i = 0; i < tokens.size (); ++i)
    tokens[i] = static_cast<TokenId> (i * 7 % kVocab);
  const auto prompt = std::span (tokens).first (50), rest = std::span (tokens).subspan (50);
  for (const KvType type : kAllTypes) {
    SCOPED_TRACE (kv_type_name (type));
    const KvLayout layout = model->kv_layout (type);
    const ContextOptions options = {.kv_type = type, .kv_blocks = {8, 8}, .max_tokens = 64};
    auto context = model->create_context (options), other = model->create_context (options);
    forward (*context, prompt, 0, 0);
    for (int group = 0; group < 2; ++group) {
      std::vector<std::byte> bytes (layout[static_cast<size_t> (group)].block_bytes);
      ASSERT_FALSE (bytes.empty ());
      for (BlockId block = 0; block < 4; ++block) {
        context->copy_block (group, block, 4 + block);
        context->read_block (group, block, bytes);
        other->write_block (group, 3 + block, bytes);
      }
    }
    const auto copied = forward (*context, rest, 50, 4);
    const auto written = forward (*other, rest, 50, 3);
    const auto expected = forward (*context, rest, 50, 0);
    EXPECT_EQ (copied, expected);
    EXPECT_EQ (written, expected);
    EXPECT_TRUE (std::ranges::all_of (expected, [] (float v) { return std::isfinite (v); }));
    EXPECT_NE (forward (*model->create_context (options), rest, 50, 0), expected) << "the prompt matters";
  }
}

TEST_F (KvBlocks, cleared_they_are_zero_and_their_neighbours_are_not)
{
  const auto model = compile ();
  const size_t bytes = model->kv_layout (KvType::kQ8)[1].block_bytes;
  auto context = model->create_context ({.kv_type = KvType::kQ8, .kv_blocks = {1, 3}, .max_tokens = 1});
  const std::vector<std::byte> ones (bytes, std::byte{1}), zeros (bytes);
  for (BlockId block = 0; block < 3; ++block)
    context->write_block (1, block, ones);
  context->clear_block (1, 1);
  std::vector<std::byte> out (bytes);
  for (BlockId block = 0; block < 3; ++block) {
    context->read_block (1, block, out);
    EXPECT_EQ (out, block == 1 ? zeros : ones) << "block " << block;
  }
}

TEST_F (KvBlocks, every_group_needs_one)
{
  const auto model = compile ();
  EXPECT_THROW (model->create_context ({.kv_blocks = {1}, .max_tokens = 1}), std::invalid_argument);
  EXPECT_THROW (model->create_context ({.kv_blocks = {0, 1}, .max_tokens = 1}), std::invalid_argument);
  EXPECT_NO_THROW (model->create_context ({.kv_blocks = {1, 1}, .max_tokens = 1}));
}

TEST_F (KvBlocks, identity_is_that_of_program_weights_and_kernels)
{
  const auto identity = compile (WeightFormat::kF32, {.threads = 1})->kv_identity ();
  EXPECT_EQ (identity.size (), 32u);
  EXPECT_EQ (identity.find_first_not_of ("0123456789abcdef"), std::string::npos) << identity;
  EXPECT_EQ (compile (WeightFormat::kF32, {.threads = 3})->kv_identity (), identity);
  EXPECT_EQ (compile (WeightFormat::kAuto)->kv_identity (), identity) << "the file has float32";

  std::vector<std::string> others;
  for (const auto format : {WeightFormat::kF16, WeightFormat::kBF16, WeightFormat::kInt8})
    others.push_back (compile (format)->kv_identity ());
  if (kernel_tables ().size () > 1) {
    EXPECT_NE (compile (WeightFormat::kF32, {.isa = CpuOptions::Isa::kPortable})->kv_identity (),
               compile (WeightFormat::kF32, {.isa = cpu::host_isas ().back ()})->kv_identity ());
  }
  tensors_[1].values.back () += 1;
  others.push_back (compile ()->kv_identity ());
  tensors_[1].values.back () -= 1;
  program_.kv_layers[0].window = 21;
  others.push_back (compile ()->kv_identity ());
  program_.kv_layers[0].window = 20;
  program_.ropes[0].factor = 0.5f;
  others.push_back (compile ()->kv_identity ());
  program_.ropes[0].factor = 1;
  std::get<AttentionOp> (program_.ops[3]).scale = 0.4f;
  others.push_back (compile ()->kv_identity ());
  std::get<AttentionOp> (program_.ops[3]).scale = 0.3f;
  others.push_back (identity);
  std::ranges::sort (others);
  EXPECT_EQ (std::ranges::adjacent_find (others), others.end ()) << "two different models, one identity";
}

TEST_F (KvBlocks, identity_may_be_asked_for_by_several_threads)
{
  const auto model = compile ();
  std::vector<std::string> identities (4);
  std::vector<std::thread> threads;
  for (std::string &identity : identities)
    threads.emplace_back ([&] { identity = model->kv_identity (); });
  for (std::thread &thread : threads)
    thread.join ();
  EXPECT_EQ (std::ranges::count (identities, model->kv_identity ()), 4);
}

} // namespace
