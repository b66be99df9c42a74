#include "engine/conversion/wanted_type.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <fnmatch.h>
#include <stdexcept>

namespace millrace
{

namespace
{

struct NamedType {
  std::string_view name;
  DType type;
  GgufMix mix = GgufMix::kNone;
};

constexpr std::array kTypes{
    NamedType{"F32", DType::kF32},
    NamedType{"F16", DType::kF16},
    NamedType{"BF16", DType::kBF16},
    NamedType{"Q8_0", DType::kQ8_0, GgufMix::kPlain},
    NamedType{"Q4_0", DType::kQ4_0, GgufMix::kPlain},
    NamedType{"Q4_1", DType::kQ4_1, GgufMix::kPlain},
    NamedType{"Q5_0", DType::kQ5_0, GgufMix::kPlain},
    NamedType{"Q5_1", DType::kQ5_1, GgufMix::kPlain},
    NamedType{"Q2_K", DType::kQ2K, GgufMix::kQ2K},
    NamedType{"Q2_K_S", DType::kQ2K, GgufMix::kQ2KS},
    NamedType{"Q3_K", DType::kQ3K, GgufMix::kQ3KM},
    NamedType{"Q3_K_S", DType::kQ3K, GgufMix::kPlain},
    NamedType{"Q3_K_M", DType::kQ3K, GgufMix::kQ3KM},
    NamedType{"Q3_K_L", DType::kQ3K, GgufMix::kQ3KL},
    NamedType{"Q4_K", DType::kQ4K, GgufMix::kQ4KM},
    NamedType{"Q4_K_S", DType::kQ4K, GgufMix::kQ4KS},
    NamedType{"Q4_K_M", DType::kQ4K, GgufMix::kQ4KM},
    NamedType{"Q5_K", DType::kQ5K, GgufMix::kQ5KM},
    NamedType{"Q5_K_S", DType::kQ5K, GgufMix::kPlain},
    NamedType{"Q5_K_M", DType::kQ5K, GgufMix::kQ5KM},
    NamedType{"Q6_K", DType::kQ6K, GgufMix::kPlain},
    NamedType{"IQ4_NL", DType::kIQ4NL, GgufMix::kIq4Nl},
    NamedType{"MXFP4", DType::kMXFP4, GgufMix::kPlain},
    NamedType{"MXFP4_MOE", DType::kMXFP4, GgufMix::kMxfp4Moe},
};

constexpr std::string_view kAffine = "affine";
constexpr int kUsualGroup = 64;

std::string
lowered (std::string_view text)
{
  std::string lower (text);
  std::ranges::transform (lower, lower.begin (), [] (char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char> (c - 'A' + 'a') : c;
  });
  return lower;
}

std::string
affine_name (const AffineCodes &codes)
{
  return std::string (kAffine) + std::to_string (codes.bits) + "g" + std::to_string (codes.group);
}

/// "4", "4g32"
std::optional<AffineCodes>
parse_codes (std::string_view text)
{
  AffineCodes codes{0, kUsualGroup};
  const char *end = text.data () + text.size ();
  const auto bits = std::from_chars (text.data (), end, codes.bits);
  if (bits.ec != std::errc () || !is_affine_bits (codes.bits))
    return std::nullopt;
  if (bits.ptr == end)
    return codes;
  const auto group = std::from_chars (bits.ptr + 1, end, codes.group);
  if (*bits.ptr != 'g' || group.ec != std::errc () || group.ptr != end || !is_affine_group (codes.group))
    return std::nullopt;
  return codes;
}

} // namespace

std::optional<WantedType>
parse_wanted_type (std::string_view name)
{
  const std::string lower = lowered (name);
  for (const NamedType &type : kTypes)
    if (lowered (type.name) == lower)
      return WantedType{std::string (type.name), {type.type, {}}, type.mix};
  if (!lower.starts_with (kAffine))
    return std::nullopt;
  const auto codes = parse_codes (std::string_view (lower).substr (kAffine.size ()));
  if (!codes)
    return std::nullopt;
  return WantedType{affine_name (*codes), {DType::kBF16, codes}};
}

std::string
wanted_type_names ()
{
  std::string names;
  for (const NamedType &type : kTypes)
    names += std::string (type.name) + ", ";
  return names + "affineB or affineBgG with B of 2, 3, 4, 5, 6, 8 and G of 32, 64, 128";
}

std::string
encoding_name (const TensorEncoding &encoding)
{
  return encoding.codes ? affine_name (*encoding.codes) : std::string (dtype_name (encoding.type));
}

TypeOverride
parse_type_override (std::string_view text)
{
  const size_t at = text.rfind ('=');
  const auto type = at == std::string_view::npos ? std::nullopt : parse_wanted_type (text.substr (at + 1));
  if (at == 0 || !type)
    throw std::invalid_argument ("\"" + std::string (text) + "\" is no PATTERN=TYPE; types are " +
                                 wanted_type_names ());
  return {std::string (text.substr (0, at)), *type};
}

const WantedType *
overridden_type (const std::vector<TypeOverride> &overrides, const std::string &tensor)
{
  for (auto override = overrides.rbegin (); override != overrides.rend (); ++override)
    if (fnmatch (override->pattern.c_str (), tensor.c_str (), 0) == 0)
      return &override->type;
  return nullptr;
}

} // namespace millrace
