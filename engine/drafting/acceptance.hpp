// How often guesses turn out right.
//
// AcceptanceTable: of all requests, by source, kind of sampling and the drafter's own belief in bands that are even in
// log-odds. Each band is a Beta posterior around the belief itself, whose evidence is capped, so that old
// evidence fades.
// AcceptanceTrack: of one request, by depth: right tokens against as many as the table expected, likewise fading. A request
// that copies its prompt and one that makes things up differ there at once.
//
// Values; no allocation.
#pragma once

#include "engine/drafting/draft.hpp"

#include <array>

namespace millrace
{

/// Greedy sampling repeats itself most, hot sampling least.
enum class SamplingKind : uint8_t { kGreedy, kCool, kHot };
constexpr int kSamplingKinds = 3;
SamplingKind sampling_kind (const SamplingParams &params);

class AcceptanceTable
{
public:
  /// 0.001 … 0.999
  double chance (DraftSource source, SamplingKind kind, double belief) const;
  void learn (DraftSource source, SamplingKind kind, double belief, bool right);

private:
  static constexpr int kBands = 16;
  struct Band {
    float right = 0, wrong = 0;
  };
  static int band_of (double belief);

  std::array<std::array<std::array<Band, kBands>, kSamplingKinds>, kDraftSources> bands_{};
};

class AcceptanceTrack
{
public:
  /// `chance` of the table, as this request bears it out. 0.001 … 0.999
  double correct (double chance, int depth) const;
  void learn (double chance, int depth, bool right);

private:
  static constexpr int kDepths = 6;
  struct Depth {
    float expected = 0, right = 0; ///< tokens
    float misses_expected = 0, wrong = 0;
  };
  static int index_of (int depth); ///< 0, 1, 2, 3, 4 … 7, 8 …

  std::array<Depth, kDepths> depths_{};
};

} // namespace millrace
