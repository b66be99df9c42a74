// The loop of roofs.hpp for AMX. Compiled for it: no inline function of others may be used here.
//
// Of sixteen rounds four products of whole tiles, with sums of their own; processors start one in sixteen cycles. Tiles that were never
// loaded would be multiplied faster.
#include "bench/roofs.hpp"

#include "engine/backend/cpu/tiles_amx.hpp"

namespace millrace::bench
{

namespace
{

using namespace cpu;

constexpr int kRows = 16, kBytes = 64, kProducts = 4, kShare = 16;

uint64_t
int8 (int64_t rounds)
{
  alignas (kBytes) int8_t values[kRows * kBytes];
  for (int i = 0; i < kRows * kBytes; i++)
    values[i] = static_cast<int8_t> (i * 7);
  TileConfig config;
  for (int tile = 0; tile < 8; tile++)
    config.set (tile, kRows, kBytes);
  configure_tiles (config);
  load_tile<4> (values, kBytes);
  load_tile<5> (values, kBytes);
  load_tile<6> (values, kBytes);
  load_tile<7> (values, kBytes);
  for (int64_t i = 0; i < rounds; i += kShare) {
    add_signed<0, 4, 6> ();
    add_signed<1, 5, 6> ();
    add_signed<2, 4, 7> ();
    add_signed<3, 5, 7> ();
  }
  store_tile<3> (values, kBytes);
  release_tiles ();
  return static_cast<uint64_t> (values[0]);
}

} // namespace

const Int8Roof kAmxInt8Roof{int8, kProducts *kRows * 16 * kBytes / kShare};

} // namespace millrace::bench
