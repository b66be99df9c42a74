// How long a step will take, learned while it runs.
//
// Two small linear models: a step without prefill costs a + b · scored tokens + c · positions they read; prefill adds
// d + e · tokens + f · tokens · positions before them. Each is a ridge regression over its own past steps, which are
// forgotten slowly and only as new ones of the same kind arrive. A step that took several times what was expected
// (the machine was busy elsewhere) counts for less. No clock: the caller measures.
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
  double predict_ms (const StepWork &work) const { return decode_ms (work) + prefill_ms (work); }

  /// The most prefill tokens, each with `positions` before it, that add at most `milliseconds`. At least 0.
  int prefill_tokens_within (double milliseconds, double positions) const;

private:
  static constexpr int kTerms = 3;
  static constexpr int kTrusted = 4;
  using Terms = std::array<double, kTerms>;

  /// Least squares with exponential forgetting, weights never negative.
  struct Regression {
    int samples = 0;
    std::array<Terms, kTerms> products{}; ///< sum of x xᵀ
    Terms targets{};                      ///< sum of x y
    Terms weights{};

    void add (const Terms &x, double y);
    double at (const Terms &x) const;
  };

  static Terms decode_terms (const StepWork &work);
  static Terms prefill_terms (const StepWork &work);

  Regression decode_, prefill_;
};

} // namespace millrace
