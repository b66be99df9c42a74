// labels: unit
//
// Linux refuses AMX where a thread's stack for signals has no room for its registers: other kernels are chosen then. In a process of
// its own, since leave is asked for once.
#include "engine/backend/cpu/instruction_sets.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstring>

using namespace millrace;
using namespace millrace::cpu;

namespace
{

alignas (64) char small_stack[2048]; // the least that there was before processors had such registers

TEST (TilePermission, without_room_for_tiles_in_a_signal_stack_other_kernels_are_chosen)
{
  stack_t stack{};
  stack.ss_sp = small_stack;
  stack.ss_size = sizeof small_stack;
  if (sigaltstack (&stack, nullptr) != 0)
    GTEST_SKIP () << "this system takes no stack of " << sizeof small_stack << " bytes";
  EXPECT_EQ (kernels_of (CpuOptions::Isa::kAmx), nullptr);
  ASSERT_NE (kernels_of (CpuOptions::Isa::kAuto), nullptr);
  EXPECT_STRNE (kernels_of (CpuOptions::Isa::kAuto)->name, "amx");
}

} // namespace
