// The loop of roofs.hpp for AVX-512 with VNNI. Compiled for it: no inline function of others may be used here.
//
// A round is 12 dot products with accumulators of their own, no loads or stores: processors start one or two of 512 bits a
// cycle, of 4 or 5 cycles' latency. The compiler is told that operands change; nothing is executed for that.
#include "bench/roofs.hpp"

#include <immintrin.h>

namespace millrace::bench
{

namespace
{

uint64_t
int8 (int64_t rounds)
{
  __m512i a = _mm512_set1_epi8 (3), b = _mm512_set1_epi8 (-5);
  __m512i c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a;
  for (int64_t i = 0; i < rounds; i++) {
    asm volatile("" : "+v"(a), "+v"(b));
    c0 = _mm512_dpbusd_epi32 (c0, a, b);
    c1 = _mm512_dpbusd_epi32 (c1, a, b);
    c2 = _mm512_dpbusd_epi32 (c2, a, b);
    c3 = _mm512_dpbusd_epi32 (c3, a, b);
    c4 = _mm512_dpbusd_epi32 (c4, a, b);
    c5 = _mm512_dpbusd_epi32 (c5, a, b);
    c6 = _mm512_dpbusd_epi32 (c6, a, b);
    c7 = _mm512_dpbusd_epi32 (c7, a, b);
    c8 = _mm512_dpbusd_epi32 (c8, a, b);
    c9 = _mm512_dpbusd_epi32 (c9, a, b);
    c10 = _mm512_dpbusd_epi32 (c10, a, b);
    c11 = _mm512_dpbusd_epi32 (c11, a, b);
    asm volatile(""
                 : "+v"(c0), "+v"(c1), "+v"(c2), "+v"(c3), "+v"(c4), "+v"(c5), "+v"(c6), "+v"(c7), "+v"(c8),
                   "+v"(c9), "+v"(c10), "+v"(c11));
  }
  c0 = _mm512_add_epi32 (_mm512_add_epi32 (_mm512_add_epi32 (c0, c1), _mm512_add_epi32 (c2, c3)),
                         _mm512_add_epi32 (_mm512_add_epi32 (c4, c5), _mm512_add_epi32 (c6, c7)));
  c0 = _mm512_add_epi32 (c0, _mm512_add_epi32 (_mm512_add_epi32 (c8, c9), _mm512_add_epi32 (c10, c11)));
  return static_cast<uint64_t> (c0[0]);
}

} // namespace

const Int8Roof kAvx512Int8Roof{int8, 12 * 64};

} // namespace millrace::bench
