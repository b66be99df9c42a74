// Products with codes of 2, 3, 4, 5, 6 and 8 bits and with codes that stand for values of a table: the inner loops of the
// formats that kernels.hpp stores in planes. Included by *_avx2.cpp only; everything is static.
//
// A chunk is 4 steps (16 columns) whose products with unsigned bytes are added in 16 bits, as far as they fit, then multiplied
// by a scale, or by 1, and added to 32 bits in one instruction.
#pragma once

#include "engine/backend/cpu/panel_tiles_avx2.hpp"
#include "engine/weights/code_values.hpp"

namespace millrace::cpu
{

constexpr int kChunkSteps = 4;

/// Bits 0 … 3 of each byte, or 4 … 7.
template <int kHalf>
static inline __m256i
nibbles_of (__m256i bytes)
{
  return _mm256_and_si256 (kHalf == 0 ? bytes : _mm256_srli_epi16 (bytes, 4), _mm256_set1_epi8 (15));
}

/// Bits [from, from + width) of each byte at `to`. Constants when called: shifts the other way are none.
static inline __m256i
bits_moved (__m256i bytes, int from, int to, int mask)
{
  const __m256i shifted =
      from > to ? _mm256_srli_epi16 (bytes, from - to) : _mm256_slli_epi16 (bytes, to - from);
  return _mm256_and_si256 (shifted, _mm256_set1_epi8 (static_cast<char> (mask << to)));
}

// Codes: kVectors of 32 columns; kParts, each an unsigned byte, worth 1 and 16; kSum products of a part fit 16 bits;
// element<kChunk, kPart> (vectors, i) is step 4 · kChunk + i of a part.

template <int kBits>
struct PlaneCodes {
  static constexpr int kVectors = kBits, kParts = 1, kSum = kBits == 6 ? 2 : 4;

  template <int kChunk, int kPart>
  static inline __m256i element (const char *vectors, int i)
  {
    if constexpr (kBits < 4) {
      const __m256i low = bits_moved (load_vector (vectors + kChunk * kVectorBytes), 2 * i, 0, 3);
      if constexpr (kBits == 2)
        return low;
      return _mm256_or_si256 (
          low, bits_moved (load_vector (vectors + 2 * kVectorBytes), kChunkSteps * kChunk + i, 2, 1));
    } else {
      const __m256i low = nibbles_of<kChunk> (load_vector (vectors + i * kVectorBytes));
      if constexpr (kBits == 5)
        return _mm256_or_si256 (
            low, bits_moved (load_vector (vectors + 4 * kVectorBytes), kChunkSteps * kChunk + i, 4, 1));
      if constexpr (kBits == 6)
        return _mm256_or_si256 (
            low, bits_moved (load_vector (vectors + (4 + kChunk) * kVectorBytes), 2 * i, 4, 3));
      return low;
    }
  }
};

struct ByteCodes {
  static constexpr int kVectors = 8, kParts = 2, kSum = 4;

  template <int kChunk, int kPart>
  static inline __m256i element (const char *vectors, int i)
  {
    return nibbles_of<kPart> (load_vector (vectors + (kChunkSteps * kChunk + i) * kVectorBytes));
  }
};

/// Nibbles that stand for values of a table, an offset added so that none is negative: in parts where they are more than a byte's
/// products have room for.
template <const int8_t (&kValues)[16], int kOffset>
struct TableCodes {
  static constexpr int kVectors = 4, kParts = kOffset > 16 ? 2 : 1, kSum = 4;

  template <int kChunk, int kPart>
  static inline __m256i element (const char *vectors, int i)
  {
    alignas (16) static constexpr auto kTable = table<kPart> ();
    const __m256i values =
        _mm256_broadcastsi128_si256 (_mm_load_si128 (reinterpret_cast<const __m128i *> (kTable.bytes)));
    return _mm256_shuffle_epi8 (values, nibbles_of<kChunk> (load_vector (vectors + i * kVectorBytes)));
  }

private:
  struct Table {
    alignas (16) uint8_t bytes[16];
  };
  template <int kPart>
  static constexpr Table table ()
  {
    Table result{};
    for (int i = 0; i < 16; ++i) {
      const int value = kValues[i] + kOffset;
      result.bytes[i] = static_cast<uint8_t> (kParts == 1 ? value : kPart == 0 ? value & 15 : value >> 4);
    }
    return result;
  }
};

/// Registers for 6 tokens: 6 sums, 4 vectors of weights, products; two parts have 8 vectors of weights.
template <typename Codes>
constexpr int kTileTokens = Codes::kParts == 2 ? 4 : 6;

/// Vectors of 32 columns when unpacked: all steps of a part, then those of the other.
template <typename Codes>
constexpr int kUnpackedVectors = Codes::kParts * 8;

template <typename Codes>
static inline void
unpack_codes (const char *vectors, char *out)
{
  auto *at = reinterpret_cast<__m256i *> (out);
#pragma GCC unroll 4
  for (int i = 0; i < kChunkSteps; ++i) {
    _mm256_store_si256 (at + i, Codes::template element<0, 0> (vectors, i));
    _mm256_store_si256 (at + kChunkSteps + i, Codes::template element<1, 0> (vectors, i));
    if constexpr (Codes::kParts == 2) {
      _mm256_store_si256 (at + 8 + i, Codes::template element<0, 1> (vectors, i));
      _mm256_store_si256 (at + 8 + kChunkSteps + i, Codes::template element<1, 1> (vectors, i));
    }
  }
}

template <typename Codes, int kChunk, int kPart, bool kUnpacked>
static inline __m256i
step_of (const char *vectors, int i)
{
  if constexpr (kUnpacked)
    return load_vector (vectors + (8 * kPart + kChunkSteps * kChunk + i) * kVectorBytes);
  else
    return Codes::template element<kChunk, kPart> (vectors, i);
}

template <typename Codes, int T, int kChunk, bool kUnpacked>
static inline void
add_chunk (const char *vectors, const char *x, size_t x_stride, __m256i scale, __m256i (&dots)[T])
{
  constexpr int kSum = Codes::kSum, kParts = Codes::kParts;
  [[maybe_unused]] const __m256i scale_16 = _mm256_slli_epi16 (scale, 4);
#pragma GCC unroll 2
  for (int begin = 0; begin < kChunkSteps; begin += kSum) {
    __m256i weights[kParts][kSum];
#pragma GCC unroll 4
    for (int i = 0; i < kSum; ++i) {
      weights[0][i] = step_of<Codes, kChunk, 0, kUnpacked> (vectors, begin + i);
      if constexpr (kParts == 2)
        weights[1][i] = step_of<Codes, kChunk, 1, kUnpacked> (vectors, begin + i);
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const char *at = x + t * x_stride + 4 * (kChunkSteps * kChunk + begin);
      __m256i sums[kParts];
#pragma GCC unroll 4
      for (int i = 0; i < kSum; ++i) {
        const __m256i values = broadcast_word (at + 4 * i);
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
          const __m256i product = _mm256_maddubs_epi16 (weights[part][i], values);
          sums[part] = i == 0 ? product : _mm256_add_epi16 (sums[part], product);
        }
      }
      dots[t] = _mm256_add_epi32 (dots[t], _mm256_madd_epi16 (sums[0], scale));
      if constexpr (kParts == 2)
        dots[t] = _mm256_add_epi32 (dots[t], _mm256_madd_epi16 (sums[1], scale_16));
      keep (dots[t]);
    }
  }
}

/// dots += code · x of 32 columns, those of the first 16 times `first`, of the others times `second`: 16 bits in each half
/// of a row's 32. `x` is the first token's activations of the columns.
template <typename Codes, int T, bool kUnpacked>
static inline void
add_codes (const char *vectors, const char *x, size_t x_stride, __m256i first, __m256i second,
           __m256i (&dots)[T])
{
  add_chunk<Codes, T, 0, kUnpacked> (vectors, x, x_stride, first, dots);
  add_chunk<Codes, T, 1, kUnpacked> (vectors, x, x_stride, second, dots);
}

} // namespace millrace::cpu
