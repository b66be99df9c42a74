// labels: unit
// The engine's loop allocates nothing once it is warm: every operator new is counted while steps run.

#include "engine/drafting/lookup_policy.hpp"
#include "engine/model/forward.hpp"
#include "engine/scheduling/scheduler.hpp"
#include "tests/draft_rows.hpp"
#include "tests/test_paths.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace
{

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};

void *
counted (size_t size, size_t alignment)
{
  if (counting.load (std::memory_order_relaxed))
    allocations.fetch_add (1, std::memory_order_relaxed);
  void *memory = alignment > alignof (std::max_align_t)
                     ? std::aligned_alloc (alignment, (size + alignment - 1) / alignment * alignment)
                     : std::malloc (size ? size : 1);
  if (!memory)
    throw std::bad_alloc ();
  return memory;
}

} // namespace

// The pairs below match; the compiler sees only one half of each where it inlines.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

void *
operator new (size_t size)
{
  return counted (size, 0);
}
void *
operator new[] (size_t size)
{
  return counted (size, 0);
}
void *
operator new (size_t size, std::align_val_t alignment)
{
  return counted (size, static_cast<size_t> (alignment));
}
void *
operator new[] (size_t size, std::align_val_t alignment)
{
  return counted (size, static_cast<size_t> (alignment));
}
// simdjson uses these.
void *
operator new (size_t size, const std::nothrow_t &) noexcept
{
  return counted (size, 0);
}
void *
operator new[] (size_t size, const std::nothrow_t &) noexcept
{
  return counted (size, 0);
}
void
operator delete (void *memory) noexcept
{
  std::free (memory);
}
void
operator delete[] (void *memory) noexcept
{
  std::free (memory);
}
void
operator delete (void *memory, size_t) noexcept
{
  std::free (memory);
}
void
operator delete[] (void *memory, size_t) noexcept
{
  std::free (memory);
}
void
operator delete (void *memory, std::align_val_t) noexcept
{
  std::free (memory);
}
void
operator delete[] (void *memory, std::align_val_t) noexcept
{
  std::free (memory);
}
void
operator delete (void *memory, size_t, std::align_val_t) noexcept
{
  std::free (memory);
}
void
operator delete[] (void *memory, size_t, std::align_val_t) noexcept
{
  std::free (memory);
}

using namespace millrace;
using namespace millrace::testing;

TEST (Allocations, AWarmStepAllocatesNothing)
{
  auto model = Model::open (source_path ("models/demo-draft"), {.cpu = {.threads = 2}});
  Scheduler scheduler (model, {.max_batch = 6, .prefill_tokens = 32, .kv_bytes = 64u << 20});
  const auto drafter = make_lookup_drafter ();
  Sampler sampler;
  Step step;
  for (int i = 0; i < 6; i++) {
    auto request = std::make_shared<Request> ();
    request->prompt = model->tokenizer->encode ("import os\nimport sys\nimport os\n");
    request->sampling.max_tokens = 300;
    request->sampling.ignore_eos = true;
    request->sampling.seed = i;
    request->sampling.temperature = i % 2 ? 0.7 : 0;
    request->sampling.top_k = i == 3 ? 40 : 0;
    request->sampling.top_p = i == 5 ? 0.9 : 1;
    request->sampling.repetition_penalty = i == 1 ? 1.1 : 1;
    request->sampling.logprobs = i == 2 ? 3 : -1;
    scheduler.admit (request);
  }
  int warm_steps = 0;
  int64_t drafted = 0;
  for (int turn = 0; scheduler.plan (step); turn++) {
    // The first steps size the arenas: prefill, then the widest verification so far.
    const bool warm = turn >= 20;
    allocations = 0;
    counting = warm;
    prefill (step);
    drafter->draft (step);
    verify (step);
    sampler.sample (step);
    bool ends = false;
    for (const Row &row : step.rows) {
      drafted += row.draft.count;
      ends = ends || row.ended ();
    }
    scheduler.commit (step);
    counting = false;
    if (warm && !ends) {
      warm_steps++;
      EXPECT_EQ (allocations.load (), 0) << "in step " << turn;
    }
  }
  std::printf ("%d warm steps, %lld drafted tokens\n", warm_steps, static_cast<long long> (drafted));
  EXPECT_GT (warm_steps, 20);
  EXPECT_GT (drafted, 50) << "speculation was hardly exercised";
}

TEST (Allocations, ASamplerThatHasSeenTheVocabularyAllocatesNothing)
{
  constexpr int kVocab = 3'000;
  std::mt19937_64 random (6);
  Sequence sequence = make_sequence ({1, 2, 3}, 4'000);
  sequence.counts.reserve (4'000);
  Step step;
  step.vocab = kVocab;
  step.rows.push_back (make_row (sequence, kMaxDraft));
  std::vector<float> logits (kVocab * (kMaxDraft + 1));
  SamplingParams &params = sequence.request->sampling;
  params.logit_bias = {{1, -100.0f}, {2, 3.0f}};
  Sampler sampler;
  size_t accepted = 0;
  for (int i = 0; i < 400; ++i) {
    for (float &logit : logits)
      logit = static_cast<float> (random () % 1'000) / 100;
    Row &row = step.rows[0];
    row.logits = logits.data ();
    row.finish = FinishReason::kNone;
    row.draft.count = 0;
    params.temperature = i % 4 * 0.5;
    params.top_k = i % 3 * 1'000;
    params.top_p = i % 5 ? 1 : 0.9;
    params.min_p = i % 7 ? 0 : 0.01;
    params.frequency_penalty = i % 2;
    params.logprobs = i == 0 ? kMaxTopLogprobs : i % 22 - 1;
    if (i == 1) {
      allocations = 0;
      counting = true;
    }
    sampler.sample (step);
    accepted += static_cast<size_t> (row.accepted_count);
    sequence.tokens.push_back (row.accepted[0].token);
  }
  counting = false;
  EXPECT_EQ (accepted, 400u);
  EXPECT_EQ (allocations.load (), 0);
}
