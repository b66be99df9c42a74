#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/recurrence_lanes.hpp"

namespace millrace::cpu::avx2
{

void
convolution (const ConvolutionArgs &args)
{
  convolve_lanes (args);
}

void
recurrence (const RecurrenceArgs &args)
{
  args.delta ? recur_lanes<true> (args) : recur_lanes<false> (args);
}

} // namespace millrace::cpu::avx2

#endif
