// Layouts of blocks: engine/weights/quantized_blocks.hpp.
#include "bench/random_weights.hpp"

#include "bench/sim_random.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string>

namespace millrace::bench
{

namespace
{

using sim::Random;

constexpr size_t kPeriodBytes = 1 << 20;
constexpr double kLargest = 0.05;

bool
is_prime (size_t number)
{
  for (size_t divisor = 2; divisor * divisor <= number; divisor++)
    if (number % divisor == 0)
      return false;
  return number > 1;
}

double
between (Random &random, double least, double most)
{
  return least + (most - least) * random.uniform ();
}

template <typename T>
void
store (std::byte *out, T value)
{
  std::memcpy (out, &value, sizeof value);
}

void
store_f16 (std::byte *out, double value)
{
  store (out, f32_to_f16 (static_cast<float> (value)));
}

void
fill (Random &random, std::byte *out, size_t bytes)
{
  for (size_t i = 0; i < bytes; i++)
    out[i] = static_cast<std::byte> (random.next () >> 56);
}

void
make_q8_0 (Random &random, std::byte *out)
{
  store_f16 (out, between (random, 0.5, 1) * kLargest / 127);
  for (int i = 0; i < 32; i++)
    store (out + 2 + i, static_cast<int8_t> (random.below (255) - 127));
}

void
make_q4_0 (Random &random, std::byte *out)
{
  store_f16 (out, between (random, 0.5, 1) * kLargest / 8);
  fill (random, out + 2, 16);
}

/// Scales and minima are drawn alike and dmin is 7.5 d, so that weights are 0 in the mean.
void
make_q4k (Random &random, std::byte *out)
{
  const double d = between (random, 0.7, 1) * 2 * kLargest / (63 * 15);
  store_f16 (out, d);
  store_f16 (out + 2, 7.5 * d);
  std::array<uint8_t, 8> scales{}, minima{};
  for (size_t i = 0; i < 8; i++) {
    scales[i] = static_cast<uint8_t> (24 + random.below (40));
    minima[i] = static_cast<uint8_t> (24 + random.below (40));
  }
  for (size_t i = 0; i < 4; i++) {
    store (out + 4 + i, static_cast<uint8_t> (scales[i] | (scales[i + 4] >> 4) << 6));
    store (out + 8 + i, static_cast<uint8_t> (minima[i] | (minima[i + 4] >> 4) << 6));
    store (out + 12 + i, static_cast<uint8_t> ((scales[i + 4] & 15) | (minima[i + 4] & 15) << 4));
  }
  fill (random, out + 16, 128);
}

void
make_q6k (Random &random, std::byte *out)
{
  fill (random, out, 192);
  for (int i = 0; i < 16; i++) {
    const int scale = 8 + random.below (9);
    store (out + 192 + i, static_cast<int8_t> (random.below (2) ? scale : -scale));
  }
  store_f16 (out + 208, between (random, 0.7, 1) * kLargest / (16 * 32));
}

void
quantize_random (DType type, Random &random, std::byte *out)
{
  std::array<float, 256> values;
  for (float &value : values)
    value = static_cast<float> (between (random, -kLargest, kLargest));
  quantize_row (type, values.data (), static_cast<int64_t> (dtype_block (type).elements), out);
}

void
make_block (DType type, Random &random, std::byte *out)
{
  switch (type) {
  case DType::kF32:
    return store (out, static_cast<float> (between (random, -kLargest, kLargest)));
  case DType::kF16:
    return store_f16 (out, between (random, -kLargest, kLargest));
  case DType::kBF16:
    return store (out, f32_to_bf16 (static_cast<float> (between (random, -kLargest, kLargest))));
  case DType::kQ8_0:
    return make_q8_0 (random, out);
  case DType::kQ4_0:
    return make_q4_0 (random, out);
  case DType::kQ4K:
    return make_q4k (random, out);
  case DType::kQ6K:
    return make_q6k (random, out);
  case DType::kQ5_0:
  case DType::kQ4_1:
  case DType::kQ5_1:
  case DType::kQ2K:
  case DType::kQ3K:
  case DType::kQ5K:
  case DType::kIQ4NL:
  case DType::kMXFP4:
    return quantize_random (type, random, out);
  default:
    throw std::invalid_argument ("no random weights of type " + std::string (dtype_name (type)));
  }
}

} // namespace

RandomWeights::RandomWeights (DType type)
{
  const size_t block_bytes = dtype_block (type).bytes;
  size_t blocks = kPeriodBytes / block_bytes;
  while (!is_prime (blocks))
    blocks--;
  bytes_.resize (blocks * block_bytes);
  Random random (1);
  for (size_t i = 0; i < blocks; i++)
    make_block (type, random, bytes_.data () + i * block_bytes);
}

std::span<const std::byte>
RandomWeights::next (uint64_t bytes)
{
  const auto part = std::span<const std::byte> (bytes_).subspan (
      at_, static_cast<size_t> (std::min<uint64_t> (bytes, bytes_.size () - at_)));
  at_ = (at_ + part.size ()) % bytes_.size ();
  return part;
}

std::vector<float>
random_norm (int64_t count, uint64_t seed)
{
  Random random (seed);
  std::vector<float> values (static_cast<size_t> (count));
  for (float &value : values)
    value = static_cast<float> (between (random, 0.9, 1.1));
  return values;
}

} // namespace millrace::bench
