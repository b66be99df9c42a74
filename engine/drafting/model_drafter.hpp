// Drafts by running a smaller model of the same vocabulary.
//
// Per slot it keeps which tokens its own KV is of. Those the sequence has meanwhile are computed when a draft is wanted
// and not before, at most `prefill_tokens` of all rows in a step, so that a long prompt is spread over steps. Rejected
// drafts cost nothing: their KV lies beyond the sequence's and is overwritten. What requests begin with in common is
// computed once (engine/kv). A row whose KV finds no room, or whose positions end, has no drafts.
//
// In a step all rows share passes: the first brings each up to its pending token, each further one appends a guess. The
// guess is what the request's own sampler would take of the smaller model's logits, with the same uniform number for the
// same position: two draws by inverse CDF from similar distributions agree most often (greedy requests: the largest
// logit). Penalties count the tokens that are certain, not the guesses before. The belief in a guess is its
// probability at the request's temperature, at 1 for greedy ones.
//
// With the controller's gate passes are made while they are worth it (draft_market.hpp). A row for which none are rests 8
// steps, then 16 … 256; what it tries after that to see whether times have changed may cost 1 % of the time it rested.
// A request's prompt is computed once a third of what that takes has been missed by having no guesses. Passes are charged to the
// request's account for guesses that cost time (draft_budget.hpp). The first guesses of each kind of sampling are made in any
// case, for their chances to be learned, and after long without passes a small one is made to measure their cost.
//
// Guesses depend on the sequence alone, except for how many there are: that is a matter of measured times.
// The decode thread only; its passes run between the target's, so that the two should share threads
// (CpuOptions::share). No allocation once the largest step and longest sequences were seen.
// Source: speculative decoding, Leviathan et al., arXiv 2211.17192; sampling here is coupled instead of corrected.
#pragma once

#include "engine/drafting/acceptance.hpp"
#include "engine/drafting/chance_spread.hpp"
#include "engine/drafting/draft_market.hpp"
#include "engine/drafting/drafter.hpp"
#include "engine/kv/kv_cache.hpp"
#include "engine/model/model.hpp"
#include "engine/sampling/sampler.hpp"

#include <array>
#include <memory>
#include <vector>

namespace millrace
{

struct ModelDrafterSettings {
  int max_draft = kMaxDraft; ///< tokens, 0 … kMaxDraft
  DraftGate gate = DraftGate::kCost;
  int prefill_tokens = 256; ///< computed to catch up in a step, of all rows; at least 1
  size_t kv_bytes = 0;      ///< 0: 1/16 of the memory available now, at most what 32 sequences can use
  KvType kv_type = KvType::kF32;
};

struct ModelDrafterStatistics {
  int64_t passes = 0, tokens = 0; ///< of the model
  int64_t guesses = 0;
  int64_t probes = 0;    ///< drafts made to see whether times have changed
  int64_t shortages = 0; ///< rows without a draft because KV found no room
};

class ModelDrafter final : public Drafter
{
public:
  /// Throws LoadError for a model that cannot draft, std::invalid_argument when kv_bytes holds no block, std::bad_alloc.
  ModelDrafter (std::shared_ptr<const Model> model, const ModelDrafterSettings &settings);
  ~ModelDrafter () override;

  void draft (Step &step) override;
  void clear () override;

  const ModelDrafterStatistics &statistics () const { return statistics_; }
  const KvCache &kv () const { return *kv_; }
  /// What passes cost by their tokens.
  const VerifyCost &pass_cost () const { return pass_cost_; }
  /// For tests: KvCache::inconsistency () of all slots.
  std::string inconsistency () const;

private:
  /// Guesses of a kind of sampling that are made whether they are worth it or not.
  struct Trials {
    int first = 32; ///< before any row rests: the first beliefs are not to be trusted
    int again = 0;  ///< where they were not worth it, now and then: texts differ
  };
  struct Slot;
  struct Work;
  Slot &slot_of (const Sequence &sequence);
  bool follow (Slot &slot, const Sequence &sequence);
  void release (Slot &slot);
  bool reserve (Slot &slot, int length);
  void gather (Step &step, const DraftMarket &market);
  void consider (Row &row, const DraftMarket &market, DraftController *controller);
  DraftProspect prospect_of (Work &work, const DraftMarket &market, DraftController *controller) const;
  bool repays (const DraftMarket &market, const Work &work, const DraftProspect &prospect) const;
  bool has_to_wait (const DraftMarket &market, const Work &work) const;
  bool is_on_trial (const DraftMarket &market, const Work &work);
  double catch_up_ms (const DraftMarket &market, int backlog) const;
  void decline (const DraftMarket &market, Work &work);
  void weigh (DraftMarket &market, DraftController *controller);

  void flush ();
  void add_slice (const Slot &slot, size_t begin, float *logits);
  std::span<float> logits_of (size_t work);
  void run_pass (const Step &step);
  void catch_up (const Step &step);
  void guess (Work &work, std::span<float> logits, DraftController *controller);
  void stop_unlikely (const DraftMarket &market);
  void offer (Work &work, DraftController *controller) const;

  std::shared_ptr<const Model> model_;
  ModelDrafterSettings settings_;
  std::unique_ptr<ExecutionContext> context_;
  std::unique_ptr<KvCache> kv_;
  Sampler sampler_;
  VerifyCost pass_cost_;
  ModelDrafterStatistics statistics_;
  /// Chances of guesses by kind of sampling, at the first place and at later ones: where a slot begins.
  std::array<std::array<ChanceSpread, 2>, kSamplingKinds> usual_;
  std::vector<Slot> slots_; ///< by Sequence::slot
  std::array<Trials, kSamplingKinds> trials_;
  int64_t requests_ = 0;
  int64_t steps_ = 0, passes_ = 0, idle_steps_ = 0; ///< idle: since the last pass
  double idle_ms_ = 0;                              ///< what steps since then took, or less

  // Scratch of a step.
  std::vector<Work> works_;
  std::vector<DraftProspect> prospects_;
  std::vector<Slice> slices_;
  std::vector<float> logits_;
  std::vector<TokenLogprob> top_;
  int room_ = 0, pass_tokens_ = 0; ///< tokens that still fit, and that are in the pass
  int64_t pass_began_ = 0;
};

} // namespace millrace
