// The reference products of panels of super-blocks with codes of 2, 3 and 5 bits: kQ2K, kQ3K, kQ5K. See panels_portable.cpp.
#include "engine/backend/cpu/panels_portable.hpp"

namespace millrace::cpu::portable
{

namespace
{

/// Entry of a sub-block in bytes [p][r][2].
int
entry (int row, int sub)
{
  return (sub / 2 * kPanelRows + row) * 2 + sub % 2;
}

// Each type: columns of a sub-block, bytes, scale and minimum of a sub-block, and where codes begin; kD and kDmin in halves.

struct Q2K {
  static constexpr int kSub = 16, kBits = 2, kBytes = kQ2KBytes, kCodes = 160, kOffset = 0;
  static constexpr size_t kD = 0, kDmin = kPanelRows;

  static int scale (const uint8_t *block, int row, int sub) { return block[32 + entry (row, sub)] & 15; }
  static int minimum (const uint8_t *block, int row, int sub) { return block[32 + entry (row, sub)] >> 4; }
};

struct Q3K {
  static constexpr int kSub = 16, kBits = 3, kBytes = kQ3KBytes, kCodes = 160, kOffset = 4;
  static constexpr size_t kD = 64;

  static int scale (const uint8_t *block, int row, int sub)
  {
    return static_cast<int8_t> (block[entry (row, sub)]);
  }
};

struct Q5K {
  static constexpr int kSub = 32, kBits = 5, kBytes = kQ5KBytes, kCodes = 128, kOffset = 0;
  static constexpr size_t kD = 0, kDmin = kPanelRows;

  static int scale (const uint8_t *block, int row, int sub) { return block[32 + entry (row, sub)] & 63; }
  static int minimum (const uint8_t *block, int row, int sub)
  {
    const int at = entry (row, sub);
    return (block[96 + at % 32] >> (at < 32 ? 0 : 4) & 15) | block[32 + at] >> 6 << 4;
  }
};

template <typename Type>
struct Super {
  static constexpr int kSubs = kSuperBlock / Type::kSub;

  static int code (const uint8_t *block, int row, int column)
  {
    const uint8_t *codes = block + Type::kCodes + column / kGroup * Type::kBits * kVectorBytes;
    return code_at (codes, Type::kBits, row, column % kGroup);
  }

  /// With the offset taken off.
  static void codes (const void *panel, int row, int columns, float *out)
  {
    const auto *block = static_cast<const uint8_t *> (panel);
    for (int begin = 0; begin < columns; begin += kSuperBlock, block += Type::kBytes) {
      for (int i = 0; i < kSuperBlock; ++i)
        out[begin + i] = static_cast<float> (code (block, row, i) - Type::kOffset);
    }
  }

  static float product (const void *panel, int row, const float *codes, const void *x, int columns)
  {
    const auto *block = static_cast<const uint8_t *> (panel);
    const auto *values = static_cast<const int8_t *> (x);
    const auto *scales = offset<float> (x, static_cast<size_t> (columns));
    [[maybe_unused]] const auto *sums = reinterpret_cast<const int16_t *> (scales + columns / kSuperBlock);
    if (Type::kSub == 32)
      sums += columns / 16;
    float sum = 0;
    for (int b = 0; b < columns / kSuperBlock; ++b, block += Type::kBytes) {
      int total = 0, minima = 0;
      for (int sub = 0; sub < kSubs; ++sub, codes += Type::kSub, values += Type::kSub) {
        total += Type::scale (block, row, sub) * dot_codes (codes, values, Type::kSub);
        if constexpr (requires { Type::kDmin; })
          minima += Type::minimum (block, row, sub) * sums[b * kSubs + sub];
      }
      const auto r = static_cast<size_t> (row);
      if constexpr (requires { Type::kDmin; })
        sum = std::fma (-static_cast<float> (minima), half (block, Type::kDmin + r) * scales[b], sum);
      sum = std::fma (static_cast<float> (total), half (block, Type::kD + r) * scales[b], sum);
    }
    return sum;
  }

  static void expand (const void *panel, int row, int columns, float *out)
  {
    codes (panel, row, columns, out);
    const auto *block = static_cast<const uint8_t *> (panel);
    const auto r = static_cast<size_t> (row);
    for (int begin = 0; begin < columns; begin += kSuperBlock, block += Type::kBytes) {
      for (int i = 0; i < kSuperBlock; ++i) {
        const int sub = i / Type::kSub;
        float &value = out[begin + i];
        value = half (block, Type::kD + r) * static_cast<float> (Type::scale (block, row, sub)) * value;
        if constexpr (requires { Type::kDmin; })
          value -= half (block, Type::kDmin + r) * static_cast<float> (Type::minimum (block, row, sub));
      }
    }
  }
};

} // namespace

void
linear_q2k (const LinearArgs &args)
{
  linear_of_codes<Super<Q2K>> (args);
}

void
linear_q3k (const LinearArgs &args)
{
  linear_of_codes<Super<Q3K>> (args);
}

void
linear_q5k (const LinearArgs &args)
{
  linear_of_codes<Super<Q5K>> (args);
}

void
expand_q2k (const void *panel, int row, int columns, float *out)
{
  Super<Q2K>::expand (panel, row, columns, out);
}

void
expand_q3k (const void *panel, int row, int columns, float *out)
{
  Super<Q3K>::expand (panel, row, columns, out);
}

void
expand_q5k (const void *panel, int row, int columns, float *out)
{
  Super<Q5K>::expand (panel, row, columns, out);
}

} // namespace millrace::cpu::portable
