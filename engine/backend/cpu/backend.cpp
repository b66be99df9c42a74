// Chooses kernels for the host and compiles programs for them.
//
// CpuOptions::Isa::kAuto takes the best set the host can run; the environment variable MILLRACE_ISA overrides it, for
// comparing results and timings.
#include "engine/backend/backend.hpp"

#include "engine/backend/cpu/context.hpp"
#include "engine/backend/cpu/instruction_sets.hpp"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string_view>

namespace millrace
{

namespace cpu
{

CompiledProgram::CompiledProgram (const Program &program, const WeightFiles &files,
                                  const CompileOptions &options, const KernelTable &kernels,
                                  std::shared_ptr<ThreadPool> pool)
    : program (program)
    , kernels (kernels)
    , pool (std::move (pool))
    , weights (program, files, options, *this->pool)
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

  std::shared_ptr<ThreadPool> thread_pool () const override { return compiled_->pool; }

  std::string load_warning () const override { return compiled_->weights.warning (); }

  uint64_t read_weights () const override
  {
    constexpr size_t kPartBytes = size_t{256} << 10;
    const auto data = compiled_->weights.data ();
    std::vector<uint64_t> sums (static_cast<size_t> (compiled_->pool->size ()));
    compiled_->pool->run (static_cast<int> ((data.size () + kPartBytes - 1) / kPartBytes),
                          [&] (int part, int lane) {
                            const auto some = data.subspan (static_cast<size_t> (part) * kPartBytes);
                            sums[static_cast<size_t> (lane)] +=
                                compiled_->kernels.read (some.data (), std::min (kPartBytes, some.size ()));
                          });
    return std::accumulate (sums.begin (), sums.end (), uint64_t{0});
  }

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
  CpuBackend (const KernelTable &kernels, const CpuOptions &options)
      : kernels_ (kernels)
      , pool_ (options.share ? options.share : std::make_shared<ThreadPool> (options.threads))
  {
  }

  std::vector<WeightMemory> plan (const Program &program, const WeightFiles &files,
                                  WeightFormat weights) const override
  {
    return PackedWeights (program, files, weights).memory ();
  }

  KvLayout kv_layout (const Program &program, KvType type) const override
  {
    return plan_kv (program, type).groups;
  }

  std::unique_ptr<CompiledModel> compile (const Program &program, const WeightFiles &files,
                                          const CompileOptions &options) const override
  {
    return std::make_unique<Model> (
        std::make_shared<const CompiledProgram> (program, files, options, kernels_, pool_));
  }

private:
  const KernelTable &kernels_;
  std::shared_ptr<ThreadPool> pool_;
};

CpuOptions::Isa
chosen_isa (CpuOptions::Isa wanted)
{
  const char *variable = std::getenv ("MILLRACE_ISA");
  if (wanted != CpuOptions::Isa::kAuto || !variable || !*variable)
    return wanted;
  std::string known;
  for (const InstructionSet &set : instruction_sets ()) {
    if (set.name == std::string_view (variable))
      return set.isa;
    known += (known.empty () ? "" : ", ") + std::string (set.name);
  }
  throw std::invalid_argument ("MILLRACE_ISA: \"" + std::string (variable) +
                               "\" is not a known instruction set; use one of " + known);
}

const KernelTable &
kernels_for (CpuOptions::Isa wanted)
{
  const CpuOptions::Isa isa = chosen_isa (wanted);
  if (const KernelTable *kernels = kernels_of (isa))
    return *kernels;
  std::string needs;
  for (const InstructionSet &set : instruction_sets ()) {
    if (set.isa == isa)
      needs = set.needs;
  }
  throw std::invalid_argument ("this machine, or this build, lacks " + needs + "; use the portable kernels");
}

} // namespace

} // namespace cpu

std::unique_ptr<Backend>
create_cpu_backend (const CpuOptions &options)
{
  return std::make_unique<cpu::CpuBackend> (cpu::kernels_for (options.isa), options);
}

} // namespace millrace
