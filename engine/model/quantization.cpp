#include "engine/model/quantization.hpp"

#include "engine/model/json_fields.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <string_view>

namespace millrace
{

namespace
{

constexpr const char *kBits = "bits", *kGroup = "group_size", *kMode = "mode", *kAffine = "affine",
                     *kMxfp4 = "mxfp4", *kQuantization = "quantization", *kMethod = "quant_method";
constexpr int64_t kMaxGroup = 1 << 20;

AffineSettings::Codes
codes_of (const JsonFields &fields)
{
  AffineSettings::Codes codes;
  codes.bits = fields.integer (kBits, 1, 64);
  codes.group = fields.integer (kGroup, 1, kMaxGroup);
  const std::string mode = fields.text_or (kMode, kAffine);
  codes.mxfp4 = mode == kMxfp4;
  if (mode != kAffine && !codes.mxfp4)
    fields.fail (kMode, "\"" + mode.substr (0, 80) +
                            "\" is not supported; use a checkpoint that is quantized in mode \"affine\" or "
                            "\"mxfp4\"");
  if (codes.mxfp4 && (codes.bits != 4 || codes.group != 32))
    fields.fail (codes.bits != 4 ? kBits : kGroup,
                 "is " + std::to_string (codes.bits != 4 ? codes.bits : codes.group) +
                     "; matrices of mode \"mxfp4\" have 4 bits in groups of 32");
  if (!is_affine_bits (codes.bits))
    fields.fail (kBits, "is " + std::to_string (codes.bits) + "; matrices must have 2, 3, 4, 5, 6 or 8 bits");
  if (!is_affine_group (codes.group))
    fields.fail (kGroup, "is " + std::to_string (codes.group) + "; groups must be of 32, 64 or 128");
  return codes;
}

AffineSettings
mlx_settings (const JsonFields &fields)
{
  AffineSettings settings;
  settings.common = codes_of (fields);
  for (const JsonFields::Field &field : fields.all ()) {
    if (field.name == kBits || field.name == kGroup || field.name == kMode)
      continue;
    if (field.object)
      settings.modules.emplace (field.name, codes_of (*field.object));
    else if (!field.flag)
      fields.fail (field.name, "must be false, true or an object of group_size and bits");
    else if (!*field.flag)
      settings.modules.emplace (field.name, std::nullopt);
  }
  return settings;
}

[[noreturn]] void
refuse (const JsonFields &fields, const char *name, const std::string &value, const char *supported)
{
  fields.fail (name, "\"" + value.substr (0, 80) + "\" is not supported; " + supported);
}

/// A text that may be of one value only, or absent.
void
require_text (const JsonFields &fields, const char *name, const char *only)
{
  std::string value = fields.text_or (name, only);
  std::ranges::transform (value, value.begin (), [] (unsigned char c) { return std::tolower (c); });
  if (value != only)
    refuse (fields, name, value, ("supported is " + std::string (only)).c_str ());
}

/// Inputs that share a scale; 0: all of a row, which files write as -1.
int
group_of (const JsonFields &fields)
{
  const int group = fields.integer (kGroup, -1, kMaxGroup);
  if (group == 0)
    fields.fail (kGroup, "is 0; groups have at least 1 element, or -1 stands for whole rows");
  return std::max (group, 0);
}

Fp8Coding
fp8_coding (const JsonFields &fields)
{
  require_text (fields, "fmt", "e4m3");
  Fp8Coding coding;
  if (!fields.has ("weight_block_size"))
    return coding;
  const auto sizes = fields.numbers ("weight_block_size", 1, kMaxGroup);
  if (sizes.size () != 2)
    fields.fail ("weight_block_size", "must be two numbers, of outputs and of inputs");
  coding.block_rows = static_cast<int64_t> (sizes[0]);
  coding.block_columns = static_cast<int64_t> (sizes[1]);
  return coding;
}

GptqCoding
gptq_coding (const JsonFields &fields)
{
  GptqCoding coding;
  coding.bits = fields.integer (kBits, 1, 64);
  if (coding.bits != 2 && coding.bits != 3 && coding.bits != 4 && coding.bits != 8)
    fields.fail (kBits, "is " + std::to_string (coding.bits) + "; supported are 2, 3, 4 and 8");
  coding.group = group_of (fields);
  const std::string format = fields.text_or ("checkpoint_format", "gptq");
  if (format != "gptq" && format != "gptq_v2")
    refuse (fields, "checkpoint_format", format, "supported are gptq and gptq_v2");
  coding.zeros_less_one = format == "gptq";
  return coding;
}

AwqCoding
awq_coding (const JsonFields &fields)
{
  require_text (fields, "version", "gemm");
  if (const int bits = fields.integer (kBits, 1, 64); bits != 4)
    fields.fail (kBits, "is " + std::to_string (bits) + "; supported are 4");
  return {group_of (fields)};
}

/// What is common to all groups of modules.
PackedCoding
packed_coding (const JsonFields &fields)
{
  PackedCoding coding;
  bool first = true;
  const auto groups = fields.object ("config_groups");
  for (const JsonFields::Field &group : groups ? groups->all () : std::vector<JsonFields::Field>{}) {
    const auto weights = group.object ? group.object->object ("weights") : std::nullopt;
    if (!weights)
      continue;
    require_text (*weights, "type", "int");
    const int bits = weights->integer ("num_bits", 1, 64);
    if (bits != 4 && bits != 8)
      weights->fail ("num_bits", "is " + std::to_string (bits) + "; supported are 4 and 8");
    if (!first && bits != coding.bits)
      weights->fail ("num_bits", "differs from that of another group, which is not supported");
    coding.bits = bits;
    first = false;
  }
  return coding;
}

WeightCoding
compressed_coding (const JsonFields &fields)
{
  const std::string format = fields.text_or ("format", "float-quantized");
  if (format == "pack-quantized")
    return packed_coding (fields);
  if (format != "float-quantized")
    refuse (fields, "format", format, "supported are float-quantized and pack-quantized");
  return Fp8Coding{};
}

WeightCoding
coding_of (const JsonFields &fields, const std::string &method)
{
  if (method == "fp8")
    return fp8_coding (fields);
  if (method == kMxfp4)
    return Mxfp4Coding{};
  if (method == "gptq")
    return gptq_coding (fields);
  if (method == "awq")
    return awq_coding (fields);
  if (method == "compressed-tensors")
    return compressed_coding (fields);
  refuse (
      fields, kMethod, method,
      "supported are fp8, mxfp4, gptq, awq and compressed-tensors; use a checkpoint that is quantized so, by "
      "MLX, or not at all");
}

std::optional<WeightCoding>
own_quantization (const JsonFields &config)
{
  if (const auto fields =
          config.object (kQuantization)) // which mlx-lm writes a second time as quantization_config
    return mlx_settings (*fields);
  for (const char *name : {"quantization_config", "compression_config"})
    if (const auto fields = config.object (name))
      return coding_of (*fields, fields->text_or (kMethod, name[0] == 'c' ? "compressed-tensors" : ""));
  return std::nullopt;
}

} // namespace

std::optional<WeightCoding>
quantization_of (const JsonFields &config)
{
  if (auto coding = own_quantization (config))
    return coding;
  const auto text = config.has ("text_config") ? config.object ("text_config") : std::nullopt;
  return text ? own_quantization (*text) : std::nullopt;
}

std::optional<WeightCoding>
load_quantization (const std::filesystem::path &config_json)
{
  const JsonFile file (config_json);
  return quantization_of (file.fields ());
}

void
apply_quantization (WeightFiles &files, const WeightCoding &coding)
{
  if (const auto *affine = std::get_if<AffineSettings> (&coding))
    return files.apply (*affine);
  std::visit (
      [&] (const auto &other) {
        if constexpr (!std::is_same_v<std::decay_t<decltype (other)>, AffineSettings>)
          apply_coding (files, other);
      },
      coding);
}

} // namespace millrace
