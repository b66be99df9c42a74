#include "bench/speculation/simulated_time.hpp"

#include <utility>

namespace millrace::bench
{

namespace
{

int64_t now_us = 1;

class SimulatedContext final : public ExecutionContext
{
public:
  SimulatedContext (std::unique_ptr<ExecutionContext> context, PassTime time)
      : context_ (std::move (context))
      , time_ (time)
  {
  }
  void forward (std::span<const Slice> slices) override
  {
    context_->forward (slices);
    now_us += time_.first_us - time_.more_us;
    for (const Slice &slice : slices)
      now_us += int64_t{time_.more_us} * static_cast<int64_t> (slice.tokens.size ());
  }
  int max_tokens () const override { return context_->max_tokens (); }
  void copy_block (int group, BlockId from, BlockId to) override { context_->copy_block (group, from, to); }
  void clear_block (int group, BlockId block) override { context_->clear_block (group, block); }
  void read_block (int group, BlockId block, std::span<std::byte> out) const override
  {
    context_->read_block (group, block, out);
  }
  void write_block (int group, BlockId block, std::span<const std::byte> in) override
  {
    context_->write_block (group, block, in);
  }

private:
  std::unique_ptr<ExecutionContext> context_;
  PassTime time_;
};

class SimulatedModel final : public CompiledModel
{
public:
  SimulatedModel (std::shared_ptr<const CompiledModel> model, PassTime time)
      : model_ (std::move (model))
      , time_ (time)
  {
  }
  KvLayout kv_layout (KvType type) const override { return model_->kv_layout (type); }
  std::string kv_identity () const override { return model_->kv_identity (); }
  size_t weight_bytes () const override { return model_->weight_bytes (); }
  std::string description () const override { return "simulated time, " + model_->description (); }
  std::shared_ptr<ThreadPool> thread_pool () const override { return model_->thread_pool (); }
  std::unique_ptr<ExecutionContext> create_context (const ContextOptions &options) const override
  {
    return std::make_unique<SimulatedContext> (model_->create_context (options), time_);
  }

private:
  std::shared_ptr<const CompiledModel> model_;
  PassTime time_;
};

} // namespace

int64_t
simulated_now_us ()
{
  return now_us;
}

std::shared_ptr<const Model>
with_simulated_time (const std::shared_ptr<const Model> &model, PassTime time)
{
  auto timed = std::make_shared<Model> (*model);
  timed->compiled = std::make_shared<SimulatedModel> (model->compiled, time);
  return timed;
}

} // namespace millrace::bench
