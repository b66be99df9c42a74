// How long a step will take, learned while it runs.
//
// Two small linear models: a step without prefill costs a + b · scored tokens + c · positions they read; prefill adds
// d + e · tokens + f · tokens · positions before them + g · positions of the sequences, whose keys and values are
// read once however few the tokens. Each is a ridge regression over its own past steps, of errors relative to the
// step, so that small chunks, where it matters, count as much as large ones; steps are forgotten slowly and only as
// new ones of the same kind arrive. A step that took several times what was expected (the machine was busy
// elsewhere) counts for less. When all chunks were alike, a regression cannot tell the cost of a token from that of
// a step; so a token is never taken to cost less than in the cheapest step of prompts alone. No clock: the
// caller measures.
//
// Deterministic; one thread; no allocation.
#pragma once

#include <array>

namespace millrace
{

/// What a step computes.
struct StepWork {
  int scored_tokens = 0;       ///< pending tokens and drafts
  double scored_positions = 0; ///< sum of the lengths they attend to
  int prefill_tokens = 0;
  double prefill_positions = 0; ///< sum over prefill tokens of the positions before them
  double prefill_lengths = 0;   ///< sum over sequences that prefill of their positions so far
};

class CostModel
{
public:
  /// A step took this long.
  void learn (const StepWork &work, double milliseconds);

  /// Enough steps of the kind have been seen to trust predict ().
  bool knows_decode () const { return decode_.samples >= kTrusted; }
  bool knows_prefill () const { return prefill_.samples >= kTrusted; }

  double decode_ms (const StepWork &work) const;  ///< of the scored tokens
  double prefill_ms (const StepWork &work) const; ///< what the prefill tokens add
  /// What a scored token takes for each position that it attends to.
  double position_ms () const;
  double predict_ms (const StepWork &work) const { return decode_ms (work) + prefill_ms (work); }

  /// The most prefill tokens, of `sequences` with `positions` each, that add at most `milliseconds`. At least 0.
  int prefill_tokens_within (double milliseconds, double positions, int sequences) const;

private:
  static constexpr int kTerms = 4;
  static constexpr int kTrusted = 4;
  using Terms = std::array<double, kTerms>;

  /// Least squares with exponential forgetting, weights never negative.
  struct Regression {
    int samples = 0;
    std::array<Terms, kTerms> products{}; ///< sum of x xᵀ
    Terms targets{};                      ///< sum of x y
    Terms weights{};

    /// `milliseconds` of a step that was expected to take `expected_ms` in all, by which its error is measured.
    void add (const Terms &terms, double milliseconds, double expected_ms);
    double at (const Terms &x) const;
  };

  static Terms decode_terms (const StepWork &work);
  static Terms prefill_terms (const StepWork &work);

  Regression decode_, prefill_;
  double cheapest_token_ms_ = 0; ///< of prefill steps without others, the least for each token; 0: none seen
};

} // namespace millrace
