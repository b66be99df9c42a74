// Chooses kernels for the host and compiles programs for them.
//
// CpuOptions::Isa::kAuto takes the best set the host can run; the environment variable MILLRACE_ISA (portable
// or avx2) overrides it, for comparing results and timings.
#include "engine/backend/backend.hpp"

#include "engine/backend/cpu/context.hpp"

#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string_view>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

namespace millrace
{

namespace cpu
{

CompiledProgram::CompiledProgram (const Program &program, const WeightFiles &files, WeightFormat format,
                                  const KernelTable &kernels, std::shared_ptr<ThreadPool> pool)
    : program (program)
    , kernels (kernels)
    , pool (std::move (pool))
    , weights (program, files, format, *this->pool)
{
  for (int type = 0; type < kKvTypes; ++type)
    kv[static_cast<size_t> (type)] = plan_kv (program, static_cast<KvType> (type));
}

namespace
{

class Model final : public CompiledModel
{
public:
  explicit Model (std::shared_ptr<const CompiledProgram> compiled)
      : compiled_ (std::move (compiled))
  {
  }

  KvLayout kv_layout (KvType type) const override { return compiled_->kv[static_cast<size_t> (type)].groups; }

  std::string kv_identity () const override
  {
    std::call_once (identified_, [this] { identity_ = cpu::kv_identity (*compiled_); });
    return identity_;
  }

  size_t weight_bytes () const override { return compiled_->weights.bytes (); }

  std::string description () const override
  {
    const int threads = compiled_->pool->size ();
    return std::string ("cpu ") + compiled_->kernels.name + ", " + compiled_->weights.description () +
           " weights, " + std::to_string (threads) + (threads == 1 ? " thread" : " threads");
  }

  std::unique_ptr<ExecutionContext> create_context (const ContextOptions &options) const override
  {
    const size_t groups = kv_layout (options.kv_type).size ();
    for (size_t i = 0; i < groups; ++i) {
      if (options.kv_blocks[i] < 1)
        throw std::invalid_argument ("a context needs at least one KV block of each group");
    }
    if (options.max_tokens < 1)
      throw std::invalid_argument ("a context needs room for at least one token");
    return std::make_unique<Context> (compiled_, options);
  }

private:
  std::shared_ptr<const CompiledProgram> compiled_;
  mutable std::once_flag identified_;
  mutable std::string identity_;
};

class CpuBackend final : public Backend
{
public:
  CpuBackend (const KernelTable &kernels, int threads)
      : kernels_ (kernels)
      , pool_ (std::make_shared<ThreadPool> (threads))
  {
  }

  std::unique_ptr<CompiledModel> compile (const Program &program, const WeightFiles &files,
                                          const CompileOptions &options) const override
  {
    return std::make_unique<Model> (
        std::make_shared<const CompiledProgram> (program, files, options.weights, kernels_, pool_));
  }

private:
  const KernelTable &kernels_;
  std::shared_ptr<ThreadPool> pool_;
};

bool
host_has_avx2 ()
{
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init ();
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0; // not every compiler's builtin knows F16C
  const bool f16c = __get_cpuid (1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
  return f16c && __builtin_cpu_supports ("avx2") && __builtin_cpu_supports ("fma");
#else
  return false;
#endif
}

CpuOptions::Isa
chosen_isa (CpuOptions::Isa wanted)
{
  const char *variable = std::getenv ("MILLRACE_ISA");
  if (wanted != CpuOptions::Isa::kAuto || !variable || !*variable)
    return wanted;
  const std::string_view name = variable;
  if (name == "portable")
    return CpuOptions::Isa::kPortable;
  if (name == "avx2")
    return CpuOptions::Isa::kAvx2;
  throw std::invalid_argument ("MILLRACE_ISA: \"" + std::string (name) +
                               "\" is not a known instruction set; use portable or avx2");
}

const KernelTable &
kernels_for (CpuOptions::Isa wanted)
{
  const CpuOptions::Isa isa = chosen_isa (wanted);
  if (isa == CpuOptions::Isa::kPortable)
    return kPortableKernels;
  if (host_has_avx2 ()) {
#if defined(__x86_64__) || defined(__i386__)
    return kAvx2Kernels;
#endif
  }
  if (isa == CpuOptions::Isa::kAvx2)
    throw std::invalid_argument ("this machine lacks AVX2, FMA or F16C; use the portable kernels");
  return kPortableKernels;
}

} // namespace

} // namespace cpu

std::unique_ptr<Backend>
create_cpu_backend (const CpuOptions &options)
{
  return std::make_unique<cpu::CpuBackend> (cpu::kernels_for (options.isa), options.threads);
}

} // namespace millrace
