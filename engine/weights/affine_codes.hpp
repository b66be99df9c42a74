// Codes of a few bits with a scale and a bias for each group of a row: which there are. Values.
#pragma once

namespace millrace
{

/// Bits of a code: 2, 3, 4, 5, 6 or 8; elements of a group: 32, 64 or 128.
struct AffineCodes {
  int bits = 0;
  int group = 0;

  bool operator== (const AffineCodes &) const = default;
};

constexpr bool
is_affine_bits (int bits)
{
  return (bits >= 2 && bits <= 6) || bits == 8;
}

constexpr bool
is_affine_group (int group)
{
  return group == 32 || group == 64 || group == 128;
}

} // namespace millrace
