// Instructions of AMX: products of matrices of bytes in registers of 1 KiB. Included through panels_amx.cpp only; everything is
// internal to it.
//
// A tile has up to 16 rows of up to 64 bytes. C += A · B with 32 bits in C, where row r of A holds bytes of columns in order, and row
// k of B four columns of each of 16 rows of weights: a vector of a panel's step. Written out because compilers know neither the state
// nor, all of them, that tiles read memory. Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter on AMX.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::cpu
{

namespace
{

/// Rows and bytes of each tile's rows (LDTILECFG).
struct alignas (64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void set (int tile, int row_count, int bytes)
  {
    rows[tile] = static_cast<uint8_t> (row_count);
    row_bytes[tile] = static_cast<uint16_t> (bytes);
  }
};
static_assert (sizeof (TileConfig) == 64);

/// This thread's tiles, all zero.
inline void
configure_tiles (const TileConfig &config)
{
  __asm__ volatile("ldtilecfg %0" : : "m"(config));
}

/// The thread has none any more: the system need not keep them, and the processor may sleep.
inline void
release_tiles ()
{
  __asm__ volatile("tilerelease");
}

template <int kTile>
inline void
clear_tile ()
{
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(kTile));
}

/// Rows are `stride` bytes apart.
template <int kTile>
inline void
load_tile (const void *rows, size_t stride)
{
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
inline void
store_tile (void *rows, size_t stride)
{
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(kTile) : "memory");
}

/// C += A · B of signed bytes.
template <int kC, int kA, int kB>
inline void
add_signed ()
{
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}

/// The same with unsigned bytes in B.
template <int kC, int kA, int kB>
inline void
add_unsigned ()
{
  __asm__ volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}

} // namespace

} // namespace millrace::cpu
