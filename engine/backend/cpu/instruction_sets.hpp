// Which instruction sets there are kernels for, and which of them this host can run.
//
// A set is usable when the processor has the instructions and the system keeps the registers they need. Asked once;
// any thread.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/backend/cpu/kernels.hpp"

#include <span>
#include <vector>

namespace millrace::cpu
{

struct InstructionSet {
  CpuOptions::Isa isa;
  const char *name;  ///< as MILLRACE_ISA has it
  const char *needs; ///< "AVX2, FMA and F16C": what a host lacks that cannot run it
};

/// From the worst to the best.
std::span<const InstructionSet> instruction_sets ();
/// Null when the host, or this build, lacks it. kAuto: the best one's.
const KernelTable *kernels_of (CpuOptions::Isa isa);
/// Those that have kernels here, portable first.
std::vector<CpuOptions::Isa> host_isas ();

} // namespace millrace::cpu
