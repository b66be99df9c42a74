#include "engine/backend/cpu/kernels_portable.hpp"
#include "engine/backend/cpu/recurrence_lanes.hpp"

namespace millrace::cpu::portable
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

} // namespace millrace::cpu::portable
