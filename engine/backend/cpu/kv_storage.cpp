#include "engine/backend/cpu/kv_storage.hpp"

#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/tensor/dtype.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>

namespace millrace::cpu
{

static_assert (kKvTokens == kBlockTokens);
static_assert (kKvFormats == kKvTypes);

namespace
{

constexpr float kLargest8 = 127;
constexpr float kLargest4 = 15;

struct HalfPair {
  uint16_t scale, minimum;
};

template <typename T>
T *
at (std::byte *data, size_t bytes = 0)
{
  return reinterpret_cast<T *> (data + bytes);
}

template <typename T>
const T *
at (const std::byte *data, size_t bytes = 0)
{
  return reinterpret_cast<const T *> (data + bytes);
}

int
group_of (int window, KvLayout &groups)
{
  if (window == 0)
    return 0;
  const auto found = std::ranges::find (groups.begin () + 1, groups.end (), window, &KvGroup::window);
  const auto index = static_cast<int> (found - groups.begin ());
  if (found == groups.end ()) {
    if (index == kMaxKvGroups)
      throw std::invalid_argument ("the model's layers have more than " + std::to_string (kMaxKvGroups - 1) +
                                   " different attention windows");
    groups.push_back ({.kind = KvGroup::Kind::kWindow, .window = window});
  }
  return index;
}

// Bytes of steps of one head in kQ8, rows of kDotColumns columns.
size_t
key_steps (int head_dim)
{
  return round_up (static_cast<size_t> (head_dim), kDotColumns) * kKvTokens;
}

// Of one head.
size_t
key_bytes (KvType type, int head_dim)
{
  const auto elements = static_cast<size_t> (head_dim) * kKvTokens;
  switch (type) {
  case KvType::kF32:
    return elements * sizeof (float);
  case KvType::kF16:
  case KvType::kBF16:
    return elements * sizeof (uint16_t);
  case KvType::kQ8:
  case KvType::kK8V4:
    break;
  }
  return key_steps (head_dim) + kKvTokens * sizeof (float);
}

size_t
value_bytes (KvType type, int value_width)
{
  if (type != KvType::kK8V4)
    return key_bytes (type, value_width);
  const auto elements = static_cast<size_t> (value_width) * kKvTokens;
  return elements / 2 + elements / kKvGroup * sizeof (HalfPair);
}

constexpr int kMostAtOnce = 256;  ///< elements converted before they are scattered
constexpr int kWidestHead = 4096; ///< that needs no memory of its own

template <typename T>
void
scatter (const T *values, int count, T *out, size_t stride)
{
  for (int i = 0; i < count; ++i)
    out[static_cast<size_t> (i) * stride] = values[i];
}

/// Converts in pieces: convert (x, count, T *out).
template <typename T, typename Convert>
void
store_converted (const float *x, int count, T *out, size_t stride, Convert convert)
{
  T values[kMostAtOnce];
  for (int begin = 0; begin < count; begin += kMostAtOnce) {
    const int size = std::min (kMostAtOnce, count - begin);
    convert (x + begin, size, values);
    scatter (values, size, out + static_cast<size_t> (begin) * stride, stride);
  }
}

void
bf16s (const float *x, int count, uint16_t *out)
{
  for (int i = 0; i < count; ++i)
    out[i] = f32_to_bf16 (x[i]);
}

// Rounds floats to whole steps, out[place (i)]; the step.
template <typename Place>
float
store_steps (const KernelTable &kernels, const float *x, int count, uint8_t *out, Place place)
{
  // The step is of all elements, so all are converted at once.
  std::array<int8_t, kWidestHead> some;
  std::vector<int8_t> many;
  int8_t *values = some.data ();
  if (count > kWidestHead) {
    many.resize (static_cast<size_t> (count));
    values = many.data ();
  }
  const float step = kernels.steps (x, count, values);
  for (size_t i = 0; i < static_cast<size_t> (count); ++i)
    out[place (i)] = static_cast<uint8_t> (values[i] + kStepBias);
  return step;
}

size_t
key_place (size_t column, size_t slot)
{
  return (column / kDotColumns * kKvTokens + slot) * kDotColumns + column % kDotColumns;
}

size_t
value_place (size_t column, size_t slot, size_t width)
{
  const size_t panel = column / kDotPanel * kDotPanel, elements = std::min<size_t> (kDotPanel, width - panel);
  return panel * kKvTokens + (slot / kDotColumns * elements + column - panel) * kDotColumns +
         slot % kDotColumns;
}

int
step_at (const std::byte *steps, size_t place)
{
  return std::to_integer<int> (steps[place]) - kStepBias;
}

// Rounds a group of `count` floats to whole steps above its minimum; elements beyond them are 0 steps.
HalfPair
quantize_group (const float *x, int count, std::byte *out)
{
  float least = x[0], most = x[0];
  bool finite = true;
  for (int i = 0; i < count; ++i) {
    finite = finite && std::isfinite (x[i]);
    least = std::min (least, x[i]);
    most = std::max (most, x[i]);
  }
  HalfPair pair = {f32_to_f16 ((most - least) / kLargest4), f32_to_f16 (least)};
  const float scale = f16_to_f32 (pair.scale), minimum = f16_to_f32 (pair.minimum);
  const bool usable = finite && std::isfinite (scale) && std::isfinite (minimum);
  if (!usable)
    pair = {f32_to_f16 (std::numeric_limits<float>::quiet_NaN ()), 0};
  const float inverse = usable && scale > 0 ? 1 / scale : 0.0f;

  const auto steps = [&] (int i) {
    if (i >= count || inverse == 0)
      return std::byte{0};
    return static_cast<std::byte> (std::lrint (std::clamp ((x[i] - minimum) * inverse, 0.0f, kLargest4)));
  };
  for (int i = 0; i < kKvGroup / 2; ++i)
    out[i] = steps (i) | steps (i + kKvGroup / 2) << 4;
  return pair;
}

// Stores one position's floats `stride` elements apart, from element `first`. False: the type has scales.
bool
store_plain (const KernelTable &kernels, KvType type, const float *x, int count, std::byte *out, size_t first,
             size_t stride)
{
  switch (type) {
  case KvType::kF32:
    scatter (x, count, at<float> (out) + first, stride);
    return true;
  case KvType::kF16:
    if (stride == 1)
      kernels.halves (x, count, at<uint16_t> (out) + first);
    else
      store_converted (x, count, at<uint16_t> (out) + first, stride, kernels.halves);
    return true;
  case KvType::kBF16:
    store_converted (x, count, at<uint16_t> (out) + first, stride, bf16s);
    return true;
  case KvType::kQ8:
  case KvType::kK8V4:
    break;
  }
  return false;
}

// f16_to_f32 () by masks, so that compilers vectorize it.
float
widen_f16 (uint16_t bits)
{
  const uint32_t magnitude = bits & 0x7fffu;
  const auto when = [] (bool condition) { return 0u - static_cast<uint32_t> (condition); };
  const uint32_t is_subnormal = when (magnitude < 0x0400u), is_not_finite = when (magnitude >= 0x7c00u);
  const auto subnormal =
      std::bit_cast<uint32_t> (static_cast<float> (static_cast<int> (magnitude)) * 0x1p-24f);
  const uint32_t usual = (magnitude << 13) + (112u << 23);
  const uint32_t exponent = is_not_finite & 0x7f800000u;
  const uint32_t quiet = when (magnitude > 0x7c00u) & 0x00400000u;
  return std::bit_cast<float> ((bits & 0x8000u) << 16 | (is_subnormal & subnormal) | (~is_subnormal & usual) |
                               exponent | quiet);
}

// The floats of a type without scales; null for one with.
const float *
expand_plain (KvType type, const std::byte *data, size_t count, float *out)
{
  switch (type) {
  case KvType::kF32:
    return at<float> (data);
  case KvType::kF16:
    for (size_t i = 0; i < count; ++i)
      out[i] = widen_f16 (at<uint16_t> (data)[i]);
    return out;
  case KvType::kBF16:
    for (size_t i = 0; i < count; ++i)
      out[i] = bf16_to_f32 (at<uint16_t> (data)[i]);
    return out;
  case KvType::kQ8:
  case KvType::kK8V4:
    break;
  }
  return nullptr;
}

size_t
segment_bytes (const KvPlan &plan, const KvPlace &place)
{
  return kSegmentBlocks * plan.groups[static_cast<size_t> (place.group)].block_bytes;
}

} // namespace

KvPlan
plan_kv (const Program &program, KvType type)
{
  KvPlan plan;
  plan.groups.emplace_back ();
  for (const KvLayer &layer : program.kv_layers) {
    const auto value_dim = static_cast<size_t> (layer.value_width ());
    KvPlace place;
    place.group = group_of (layer.window, plan.groups);
    place.heads = layer.heads;
    place.value_width = static_cast<int> (round_up (value_dim, type == KvType::kK8V4 ? kKvGroup : kValuePad));
    place.key_bytes = key_bytes (type, layer.head_dim);
    place.value_bytes = value_bytes (type, place.value_width);
    size_t &block_bytes = plan.groups[static_cast<size_t> (place.group)].block_bytes;
    place.key_offset = kSegmentBlocks * block_bytes;
    block_bytes += place.key_block_bytes ();
    place.value_offset = kSegmentBlocks * block_bytes;
    block_bytes += place.value_block_bytes ();
    plan.places.push_back (place);
  }
  if (program.state_layers.empty ())
    return plan;
  plan.state_group = static_cast<int> (plan.groups.size ());
  if (plan.state_group == kMaxKvGroups)
    throw std::invalid_argument ("the model's layers have more than " + std::to_string (kMaxKvGroups - 2) +
                                 " different attention windows beside recurrent state");
  size_t bytes = 0;
  for (const StateLayer &layer : program.state_layers) {
    StatePlace place;
    place.inputs_offset = bytes;
    bytes = round_up (bytes + checked_product (static_cast<size_t> (layer.taps - 1) * sizeof (float),
                                               static_cast<size_t> (layer.channels)),
                      kStateLanes * sizeof (float));
    place.matrices_offset = bytes;
    place.matrix_bytes = checked_product (static_cast<size_t> (layer.keys) * sizeof (float),
                                          round_up (static_cast<size_t> (layer.values), kStateLanes));
    bytes += checked_product (place.matrix_bytes, static_cast<size_t> (layer.heads));
    plan.states.push_back (place);
  }
  plan.groups.push_back ({.kind = KvGroup::Kind::kRecurrent, .block_bytes = bytes});
  return plan;
}

size_t
group_bytes (const KvGroup &group, int blocks)
{
  auto count = static_cast<size_t> (blocks);
  if (group.kind != KvGroup::Kind::kRecurrent)
    count = round_up (count, kSegmentBlocks);
  return checked_product (group.block_bytes, count);
}

size_t
keys_of_block (const KvPlan &plan, const KvPlace &place, int32_t block)
{
  const auto index = static_cast<size_t> (block);
  return index / kSegmentBlocks * segment_bytes (plan, place) + place.key_offset +
         index % kSegmentBlocks * place.key_block_bytes ();
}

size_t
values_of_block (const KvPlan &plan, const KvPlace &place, int32_t block)
{
  const auto index = static_cast<size_t> (block);
  return index / kSegmentBlocks * segment_bytes (plan, place) + place.value_offset +
         index % kSegmentBlocks * place.value_block_bytes ();
}

void
describe_kv (const KvPlan &plan, const KvPlace &place, int first_head, AttentionArgs &args)
{
  const auto head = static_cast<size_t> (first_head);
  args.value_width = place.value_width;
  args.segment_bytes = segment_bytes (plan, place);
  args.key_offset = place.key_offset + head * place.key_bytes;
  args.key_block_bytes = place.key_block_bytes ();
  args.key_bytes = place.key_bytes;
  args.value_offset = place.value_offset + head * place.value_bytes;
  args.value_block_bytes = place.value_block_bytes ();
  args.value_bytes = place.value_bytes;
}

void
store_key (const KernelTable &kernels, KvType type, const float *key, int head_dim, int slot, std::byte *keys)
{
  if (store_plain (kernels, type, key, head_dim, keys, static_cast<size_t> (slot), kKvTokens))
    return;
  const auto row = static_cast<size_t> (slot);
  at<float> (keys, key_steps (head_dim))[slot] = store_steps (
      kernels, key, head_dim, at<uint8_t> (keys), [&] (size_t column) { return key_place (column, row); });
}

void
store_value (const KernelTable &kernels, KvType type, const float *value, int head_dim, int value_width,
             int slot, std::byte *values)
{
  const auto width = static_cast<size_t> (value_width), row = static_cast<size_t> (slot);
  if (store_plain (kernels, type, value, head_dim, values, row * width, 1))
    return;
  if (type == KvType::kQ8) {
    at<float> (values, width * kKvTokens)[slot] =
        store_steps (kernels, value, head_dim, at<uint8_t> (values),
                     [&] (size_t column) { return value_place (column, row, width); });
    return;
  }
  auto *pairs = at<HalfPair> (values, width / 2 * kKvTokens) + row * (width / kKvGroup);
  for (int begin = 0; begin < head_dim; begin += kKvGroup)
    pairs[begin / kKvGroup] = quantize_group (value + begin, std::min (kKvGroup, head_dim - begin),
                                              values + row * (width / 2) + begin / 2);
}

const float *
expand_keys (KvType type, const std::byte *keys, int head_dim, float *out)
{
  const auto count = static_cast<size_t> (head_dim) * kKvTokens;
  if (const float *plain = expand_plain (type, keys, count, out))
    return plain;
  const auto *scales = at<float> (keys, key_steps (head_dim));
  for (size_t column = 0; column < static_cast<size_t> (head_dim); ++column) {
    for (size_t slot = 0; slot < kKvTokens; ++slot)
      out[column * kKvTokens + slot] =
          static_cast<float> (step_at (keys, key_place (column, slot))) * scales[slot];
  }
  return out;
}

const float *
expand_values (KvType type, const std::byte *values, int value_width, float *out)
{
  const auto width = static_cast<size_t> (value_width);
  if (const float *plain = expand_plain (type, values, width * kKvTokens, out))
    return plain;
  if (type == KvType::kQ8) {
    const auto *scales = at<float> (values, width * kKvTokens);
    for (size_t slot = 0; slot < kKvTokens; ++slot) {
      for (size_t i = 0; i < width; ++i)
        out[slot * width + i] =
            static_cast<float> (step_at (values, value_place (i, slot, width))) * scales[slot];
    }
    return out;
  }
  const auto *pairs = at<HalfPair> (values, width / 2 * kKvTokens);
  for (size_t group = 0; group < width / kKvGroup * kKvTokens; ++group) {
    const float scale = f16_to_f32 (pairs[group].scale), minimum = f16_to_f32 (pairs[group].minimum);
    const auto *steps = at<uint8_t> (values, group * (kKvGroup / 2));
    for (size_t i = 0; i < kKvGroup / 2; ++i) {
      out[group * kKvGroup + i] = static_cast<float> (steps[i] & 15) * scale + minimum;
      out[group * kKvGroup + kKvGroup / 2 + i] = static_cast<float> (steps[i] >> 4) * scale + minimum;
    }
  }
  return out;
}

void
key_steps_of (const std::byte *keys, int head_dim, int16_t *out)
{
  for (size_t column = 0; column < static_cast<size_t> (head_dim); ++column) {
    for (size_t slot = 0; slot < kKvTokens; ++slot)
      out[column * kKvTokens + slot] = static_cast<int16_t> (step_at (keys, key_place (column, slot)));
  }
}

void
value_steps_of (const std::byte *values, int value_width, int16_t *out)
{
  const auto width = static_cast<size_t> (value_width);
  for (size_t slot = 0; slot < kKvTokens; ++slot) {
    for (size_t i = 0; i < width; ++i)
      out[slot * width + i] = static_cast<int16_t> (step_at (values, value_place (i, slot, width)));
  }
}

const float *
key_scales (const std::byte *keys, int head_dim)
{
  return at<float> (keys, key_steps (head_dim));
}

const float *
value_scales (const std::byte *values, int value_width)
{
  return at<float> (values, static_cast<size_t> (value_width) * kKvTokens);
}

} // namespace millrace::cpu
