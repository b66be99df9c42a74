// The architectures whose GGUF files can be opened, and what their metadata say in the words of config.json.
//
// Private to engine/model. An architecture is an entry of the table in gguf_families.cpp, with a function for what its keys mean
// beside those that all have in common.
#pragma once

#include "engine/model/gguf_translation.hpp"

#include <array>
#include <span>
#include <string_view>

namespace millrace
{

constexpr const char *kGgufArchitecture = "general.architecture";
constexpr const char *kGgufHead = "output.weight";
constexpr const char *kGgufFactors = "rope_freqs.weight", *kGgufShortFactors = "rope_factors_short.weight",
                     *kGgufLongFactors = "rope_factors_long.weight";
constexpr double kMaxRopeFactor = 1e6;

struct GgufRenamed {
  const char *name; ///< in config.json
  const char *key;  ///< in the metadata, after the architecture and a dot
};

/// What an architecture's files are like beside the common part.
struct GgufFamily {
  std::string_view architecture;
  std::string_view model_type;
  bool paired = false;        ///< WeightRef::paired: converters write q and k for a rotation of neighbours
  bool windows = false;       ///< may have attention.sliding_window
  bool partial = false;       ///< may rotate a part of each head
  bool experts = false;       ///< may have some
  bool plain_heads = true;    ///< one size for keys, values and rotation in all layers
  bool turning_heads = false; ///< GatedDeltaSpec::turns
  bool yarn_log = false;      ///< may have rope.scaling.yarn_log_multiplier
  bool yarn_truncates = true; ///< RopeSpec::truncate, which files do not say
  std::array<GgufRenamed, 4> renamed = {};
  void (*own) (GgufTranslation &translation) = nullptr;
};

std::span<const GgufFamily> gguf_families ();

/// model_type and all members that are known, for the family to read. Throws LoadError.
void translate_gguf (const GgufFamily &family, GgufTranslation &translation);

} // namespace millrace
