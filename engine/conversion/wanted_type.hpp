// The types that models can be converted to, by the names that users give them.
//
// For GGUF files F32, F16, BF16, the block types and the usual mixes of these (gguf_mix.hpp); for folders of safetensors F32, F16,
// BF16 and affineBgG, codes of B bits in groups of G (affineB: of 64). Upper or lower case. Pure; any thread.
#pragma once

#include "engine/conversion/gguf_mix.hpp"
#include "engine/weights/tensor_output.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct WantedType {
  std::string name; ///< as it is shown
  TensorEncoding encoding;
  GgufMix mix = GgufMix::kNone;

  bool is_affine () const { return encoding.codes.has_value (); }
  bool is_blocks () const { return !encoding.codes && is_block_type (encoding.type); }
};

/// None for a name of nothing.
std::optional<WantedType> parse_wanted_type (std::string_view name);
/// "F32, F16, …", all of them, for messages.
std::string wanted_type_names ();
/// "Q4_K", "BF16", "affine4g64".
std::string encoding_name (const TensorEncoding &encoding);

/// A pattern of fnmatch(3) for names of tensors as they are written, and the type of those that it fits.
struct TypeOverride {
  std::string pattern;
  WantedType type;
};

/// "PATTERN=TYPE"; throws std::invalid_argument.
TypeOverride parse_type_override (std::string_view text);
/// Of the last one that fits; null when none does.
const WantedType *overridden_type (const std::vector<TypeOverride> &overrides, const std::string &tensor);

} // namespace millrace
