// The loops of roofs.hpp for AVX2 and FMA. Compiled for them: no inline function of others may be used here.
//
// Registers of a round, no loads or stores:
//   int8     8 accumulators of 16 × 16 bits = 2 left × 4 right operands (6 registers), 2 for products.
//            Zen 3 starts 2 vpmaddubsw a cycle (32 multiply-adds each), but measured are 3.3 of these instructions a
//            cycle whatever their order, so each product's addition costs it 17 %; with half the additions it keeps 2.
//   float32  12 accumulators: 2 vfmadd a cycle of 4 cycles' latency need 8.
// The compiler is told that operands change, so that it cannot see equal products; nothing is executed for that.
#include "bench/roofs.hpp"

#include <immintrin.h>

namespace millrace::bench
{

namespace
{

uint64_t
read (const std::byte *data, size_t bytes)
{
  // Four places at once, a quarter of the memory apart: more streams for the prefetchers.
  const size_t quarter = bytes / 4;
  __m256i sums[4] = {};
  for (size_t i = 0; i < quarter; i += 64)
    for (size_t part = 0; part < 4; part++) {
      const auto *line = reinterpret_cast<const __m256i *> (data + part * quarter + i);
      sums[part] = _mm256_add_epi64 (
          sums[part], _mm256_add_epi64 (_mm256_load_si256 (line), _mm256_load_si256 (line + 1)));
    }
  const __m256i sum =
      _mm256_add_epi64 (_mm256_add_epi64 (sums[0], sums[1]), _mm256_add_epi64 (sums[2], sums[3]));
  return static_cast<uint64_t> (_mm256_extract_epi64 (sum, 0));
}

uint64_t
int8 (int64_t rounds)
{
  __m256i a0 = _mm256_set1_epi8 (1), a1 = _mm256_set1_epi8 (2);
  __m256i b0 = _mm256_set1_epi8 (3), b1 = _mm256_set1_epi8 (-3), b2 = _mm256_set1_epi8 (5),
          b3 = _mm256_set1_epi8 (-5);
  __m256i c00 = a0, c01 = a0, c02 = a0, c03 = a0, c10 = a1, c11 = a1, c12 = a1, c13 = a1;
  for (int64_t i = 0; i < rounds; i++) {
    asm volatile("" : "+x"(a0), "+x"(a1));
    c00 = _mm256_add_epi16 (c00, _mm256_maddubs_epi16 (a0, b0));
    c01 = _mm256_add_epi16 (c01, _mm256_maddubs_epi16 (a0, b1));
    c02 = _mm256_add_epi16 (c02, _mm256_maddubs_epi16 (a0, b2));
    c03 = _mm256_add_epi16 (c03, _mm256_maddubs_epi16 (a0, b3));
    c10 = _mm256_add_epi16 (c10, _mm256_maddubs_epi16 (a1, b0));
    c11 = _mm256_add_epi16 (c11, _mm256_maddubs_epi16 (a1, b1));
    c12 = _mm256_add_epi16 (c12, _mm256_maddubs_epi16 (a1, b2));
    c13 = _mm256_add_epi16 (c13, _mm256_maddubs_epi16 (a1, b3));
    // Sums wrap around; that they are opaque keeps the compiler from adding products first.
    asm volatile("" : "+x"(c00), "+x"(c01), "+x"(c02), "+x"(c03), "+x"(c10), "+x"(c11), "+x"(c12), "+x"(c13));
  }
  c00 = _mm256_add_epi16 (_mm256_add_epi16 (c00, c01), _mm256_add_epi16 (c02, c03));
  c10 = _mm256_add_epi16 (_mm256_add_epi16 (c10, c11), _mm256_add_epi16 (c12, c13));
  return static_cast<uint64_t> (_mm256_extract_epi64 (_mm256_add_epi16 (c00, c10), 0));
}

uint64_t
float32 (int64_t rounds)
{
  __m256 a = _mm256_set1_ps (0.5f), b = _mm256_set1_ps (0.25f);
  __m256 c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a;
  for (int64_t i = 0; i < rounds; i++) {
    c0 = _mm256_fmadd_ps (c0, b, a);
    c1 = _mm256_fmadd_ps (c1, b, a);
    c2 = _mm256_fmadd_ps (c2, b, a);
    c3 = _mm256_fmadd_ps (c3, b, a);
    c4 = _mm256_fmadd_ps (c4, b, a);
    c5 = _mm256_fmadd_ps (c5, b, a);
    c6 = _mm256_fmadd_ps (c6, b, a);
    c7 = _mm256_fmadd_ps (c7, b, a);
    c8 = _mm256_fmadd_ps (c8, b, a);
    c9 = _mm256_fmadd_ps (c9, b, a);
    c10 = _mm256_fmadd_ps (c10, b, a);
    c11 = _mm256_fmadd_ps (c11, b, a);
    asm volatile(""
                 : "+x"(c0), "+x"(c1), "+x"(c2), "+x"(c3), "+x"(c4), "+x"(c5), "+x"(c6), "+x"(c7), "+x"(c8),
                   "+x"(c9), "+x"(c10), "+x"(c11));
  }
  c0 = _mm256_add_ps (_mm256_add_ps (_mm256_add_ps (c0, c1), _mm256_add_ps (c2, c3)),
                      _mm256_add_ps (_mm256_add_ps (c4, c5), _mm256_add_ps (c6, c7)));
  c0 = _mm256_add_ps (c0, _mm256_add_ps (_mm256_add_ps (c8, c9), _mm256_add_ps (c10, c11)));
  return static_cast<uint64_t> (_mm256_cvtss_f32 (c0));
}

} // namespace

const RoofLoops kAvx2RoofLoops{read, {int8, 8 * 32}, {}, float32, 12 * 8};

} // namespace millrace::bench
