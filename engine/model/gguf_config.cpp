// Metadata of a GGUF file → ArchitectureSpec.
#include "engine/model/gguf_config.hpp"

#include "engine/error.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/gguf_families.hpp"
#include "engine/model/gguf_tensors.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <cstring>

namespace millrace
{

namespace
{

/// Before anything else is asked of the file: other architectures have other keys.
const GgufFamily &
family_of (const GgufFields &fields)
{
  const std::string_view architecture = fields.text (kGgufArchitecture);
  std::string supported;
  for (const GgufFamily &family : gguf_families ()) {
    if (family.architecture == architecture)
      return family;
    supported += (supported.empty () ? "" : ", ") + std::string (family.architecture);
  }
  fields.fail (kGgufArchitecture,
               "\"" + printable (architecture) + "\" is not supported; supported are " + supported);
}

/// Factors of a tensor, one for each pair of rotated elements; empty without that tensor.
std::vector<float>
rope_factors (const WeightFiles &weights, const char *name, int dimensions)
{
  std::vector<float> factors;
  if (!weights.contains (name) || dimensions == 0)
    return factors;
  const TensorView &tensor = weights.require (name, {dimensions / 2});
  if (tensor.dtype != DType::kF32)
    throw LoadError (weights.file_of (name), name,
                     "is of type " + std::string (dtype_name (tensor.dtype)) +
                         ", expected F32; fetch the file again");
  factors.resize (static_cast<size_t> (dimensions / 2));
  std::memcpy (factors.data (), tensor.data.data (), tensor.data.size ());
  for (const float factor : factors)
    if (!(factor > 0 && factor <= kMaxRopeFactor))
      throw LoadError (weights.file_of (name), name,
                       "holds " + std::to_string (factor) +
                           ", expected factors above 0; fetch the file again");
  return factors;
}

/// LongRoPE is told by two tensors.
void
set_longrope (const GgufTranslation &translation, int max_positions, RopeSpec &rope)
{
  const WeightFiles &weights = translation.weights ();
  rope.frequency_factors = rope_factors (weights, kGgufShortFactors, rope.dimensions);
  rope.long_frequency_factors = rope_factors (weights, kGgufLongFactors, rope.dimensions);
  if (rope.frequency_factors.empty ())
    throw LoadError (weights.file_of (kGgufShortFactors), kGgufShortFactors,
                     std::string ("is missing though there is ") + kGgufLongFactors +
                         "; fetch the file again");
  rope.scaling = RopeSpec::Scaling::kLongRope;
  rope.original_max_positions = static_cast<int> (
      translation.integer_or ("rope.scaling.original_context_length", 2, INT32_MAX, max_positions));
  rope.attention_factor =
      translation.fields ().number_or (translation.key ("rope.scaling.attn_factor"), 1e-3, 1000, 1);
}

void
set_factors (const GgufTranslation &translation, int max_positions, RopeSpec &rope)
{
  if (rope.dimensions == 0)
    return;
  if (translation.weights ().contains (kGgufLongFactors))
    set_longrope (translation, max_positions, rope);
  else
    rope.frequency_factors = rope_factors (translation.weights (), kGgufFactors, rope.dimensions);
}

void
check_head_sizes (const GgufTranslation &translation, bool partial, int head_dim)
{
  for (const char *name : {"attention.value_length", "rope.dimension_count"}) {
    if (partial && name == std::string_view ("rope.dimension_count"))
      continue;
    const int64_t value = translation.integer_or (name, 1, INT32_MAX, head_dim);
    if (value != head_dim)
      translation.fields ().fail (translation.key (name),
                                  "is " + std::to_string (value) + " but keys have " +
                                      std::to_string (head_dim) +
                                      " elements a head; other sizes are not supported, use another model");
  }
}

ArchitectureSpec
translated_spec (const GgufFamily &family, GgufTranslation &translation)
{
  translate_gguf (family, translation);
  simdjson::dom::parser parser;
  simdjson::dom::object config;
  const std::string text = translation.json ();
  if (parser.parse (text).get (config))
    translation.fields ().fail (kGgufArchitecture,
                                "its metadata hold text that is not Unicode; fetch the file again");
  return load_family (JsonFields (translation.fields ().file (), "", config, &translation.names ()));
}

} // namespace

ArchitectureSpec
gguf_architecture (const GgufFields &fields, const WeightFiles &weights)
{
  const GgufFamily &family = family_of (fields);
  GgufTranslation translation (fields, weights, std::string (family.architecture));
  ArchitectureSpec spec = translated_spec (family, translation);
  spec.norm_offset = 0; // converters have added it
  name_gguf_tensors (family, weights, spec);
  for (LayerSpec &layer : spec.layers) {
    if (auto *attention = std::get_if<AttentionSpec> (&layer.mixer); attention && family.plain_heads) {
      check_head_sizes (translation, family.partial, attention->head_dim);
      attention->paired_rows = family.paired;
      set_factors (translation, spec.max_positions, attention->rope);
    }
    if (auto *attention = std::get_if<LatentAttentionSpec> (&layer.mixer))
      set_factors (translation, spec.max_positions, attention->rope);
  }
  return spec;
}

} // namespace millrace
