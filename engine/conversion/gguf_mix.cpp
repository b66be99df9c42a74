#include "engine/conversion/gguf_mix.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace millrace
{

namespace
{

constexpr std::string_view kEmbedding = "token_embd.weight", kHead = "output.weight";
constexpr std::string_view kLayer = "blk.";
constexpr int kManyExperts = 8;

/// Parts of names whose tensors are small, or are not multiplied with.
constexpr std::array<std::string_view, 11> kFloats{
    "_norm.weight", "ffn_gate_inp", "ssm_conv1d.weight", "per_layer_model_proj",
    "attn_rel_b",   "token_types",  "position_embd",     "altup",
    "laurel",       "shortconv",    "time_mix_"};

/// "blk.3.attn_v.weight" → 3 and "attn_v.weight"; -1 for tensors that are of no layer.
int
split_name (std::string_view name, std::string_view &kind)
{
  kind = name;
  int layer = -1;
  if (!name.starts_with (kLayer))
    return layer;
  const char *begin = name.data () + kLayer.size (), *end = name.data () + name.size ();
  const auto number = std::from_chars (begin, end, layer);
  if (number.ec != std::errc () || number.ptr == end || *number.ptr != '.')
    return -1;
  kind = name.substr (static_cast<size_t> (number.ptr + 1 - name.data ()));
  return layer;
}

/// The layers in which a mix spends more: the first and the last eighth, and every third between.
bool
is_outer (int index, int count)
{
  return index < count / 8 || index >= 7 * count / 8 || (index - count / 8) % 3 == 2;
}

/// Which layers get another type than the rest.
enum class Where : uint8_t {
  kNowhere,
  kAll,
  kOuter,
  kFirstTwo,
  kFirstFour,
  kFirstEighth,
  kFirstSixteenth,
  kWideGroups
};

struct Choice {
  Where where = Where::kNowhere;
  DType type = DType::kF32;
};

/// What a mix does with the matrices that it treats in another way: the first choice that holds.
struct Recipe {
  GgufMix mix;
  std::array<Choice, 2> values, down, output, fused;
};

constexpr std::array kRecipes{
    Recipe{.mix = GgufMix::kQ2K,
           .values = {{{Where::kWideGroups, DType::kQ4K}, {Where::kAll, DType::kQ3K}}},
           .down = {{{Where::kAll, DType::kQ3K}}},
           .output = {{{Where::kAll, DType::kQ3K}}},
           .fused = {}},
    Recipe{.mix = GgufMix::kQ2KS,
           .values = {{{Where::kWideGroups, DType::kQ4K}}},
           .down = {{{Where::kFirstEighth, DType::kQ4K}}},
           .output = {},
           .fused = {}},
    Recipe{.mix = GgufMix::kQ3KM,
           .values = {{{Where::kFirstTwo, DType::kQ5K}, {Where::kAll, DType::kQ4K}}},
           .down = {{{Where::kFirstSixteenth, DType::kQ5K}, {Where::kAll, DType::kQ4K}}},
           .output = {{{Where::kAll, DType::kQ4K}}},
           .fused = {{{Where::kAll, DType::kQ4K}}}},
    Recipe{.mix = GgufMix::kQ3KL,
           .values = {{{Where::kAll, DType::kQ5K}}},
           .down = {{{Where::kAll, DType::kQ5K}}},
           .output = {{{Where::kAll, DType::kQ5K}}},
           .fused = {{{Where::kAll, DType::kQ4K}}}},
    Recipe{.mix = GgufMix::kQ4KS,
           .values = {{{Where::kFirstFour, DType::kQ5K}}},
           .down = {{{Where::kFirstEighth, DType::kQ5K}}},
           .output = {},
           .fused = {}},
    Recipe{.mix = GgufMix::kQ4KM,
           .values = {{{Where::kOuter, DType::kQ6K}}},
           .down = {{{Where::kOuter, DType::kQ6K}}},
           .output = {},
           .fused = {{{Where::kAll, DType::kQ5K}}}},
    Recipe{.mix = GgufMix::kQ5KM,
           .values = {{{Where::kOuter, DType::kQ6K}}},
           .down = {{{Where::kOuter, DType::kQ6K}}},
           .output = {},
           .fused = {{{Where::kAll, DType::kQ6K}}}},
    Recipe{.mix = GgufMix::kIq4Nl,
           .values = {{{Where::kWideGroups, DType::kQ5K}}},
           .down = {{{Where::kFirstEighth, DType::kQ5K}}},
           .output = {},
           .fused = {}},
};

bool
holds (Where where, int index, int count, int query_groups)
{
  switch (where) {
  case Where::kNowhere:
    return false;
  case Where::kAll:
    return true;
  case Where::kOuter:
    return is_outer (index, count);
  case Where::kFirstTwo:
    return index < 2;
  case Where::kFirstFour:
    return index < 4;
  case Where::kFirstEighth:
    return index < count / 8;
  case Where::kFirstSixteenth:
    return index < count / 16;
  case Where::kWideGroups:
    return query_groups >= 4;
  }
  return false;
}

} // namespace

bool
is_quantizable_gguf (const GgufTensorFacts &tensor)
{
  const auto wide = std::ranges::count_if (tensor.shape, [] (int64_t size) { return size > 1; });
  return wide >= 2 && tensor.name.ends_with (".weight") &&
         std::ranges::none_of (
             kFloats, [&] (std::string_view part) { return tensor.name.find (part) != std::string::npos; });
}

GgufTypes::GgufTypes (const std::vector<GgufTensorFacts> &tensors, int query_groups, int experts)
    : query_groups_ (query_groups)
    , experts_ (experts)
{
  for (const GgufTensorFacts &tensor : tensors) {
    std::string_view kind;
    if (const int layer = split_name (tensor.name, kind); layer >= 0)
      layers_[std::string (kind)].push_back (layer);
    tied_ &= tensor.name != kHead;
  }
  for (auto &[kind, layers] : layers_)
    std::ranges::sort (layers);
}

GgufTypes::Place
GgufTypes::place_of (const std::string &name) const
{
  std::string_view kind;
  const int layer = split_name (name, kind);
  const auto found = layers_.find (std::string (kind));
  if (layer < 0 || found == layers_.end ())
    return {0, 1};
  const auto at = std::ranges::lower_bound (found->second, layer);
  return {static_cast<int> (at - found->second.begin ()), static_cast<int> (found->second.size ())};
}

DType
GgufTypes::type_of (const GgufTensorFacts &tensor, DType base, GgufMix mix) const
{
  DType type = base;
  if (mix == GgufMix::kMxfp4Moe) {
    type = tensor.shape.size () > 2 ? DType::kMXFP4 : DType::kQ8_0;
  } else if (mix != GgufMix::kNone) {
    std::string_view kind;
    split_name (tensor.name, kind);
    type = mixed (kind, place_of (tensor.name), base, mix);
  }
  return fitting_gguf_type (type, tensor.shape.back ());
}

DType
GgufTypes::mixed (std::string_view kind, const Place &place, DType base, GgufMix mix) const
{
  const bool fine = base == DType::kQ8_0 || base == DType::kMXFP4;
  if (kind == kHead || (kind == kEmbedding && tied_))
    return fine ? DType::kQ8_0 : DType::kQ6K;
  if (kind == kEmbedding)
    return base == DType::kMXFP4 ? DType::kQ8_0 : base;
  if (experts_ == kManyExperts) { // as Mixtral: attention is small beside them
    const bool coarse =
        base == DType::kQ2K || base == DType::kQ3K || base == DType::kQ4K || base == DType::kIQ4NL;
    if (kind == "attn_v.weight" || kind == "attn_k.weight")
      return DType::kQ8_0;
    if (kind == "attn_output.weight")
      return coarse ? DType::kQ5K : base;
  }
  const auto recipe = std::ranges::find (kRecipes, mix, &Recipe::mix);
  if (recipe == kRecipes.end ())
    return base;
  const bool down = kind == "ffn_down.weight" || kind == "ffn_down_exps.weight";
  const std::array<Choice, 2> choices = kind == "attn_v.weight"        ? recipe->values
                                        : down                         ? recipe->down
                                        : kind == "attn_output.weight" ? recipe->output
                                        : kind == "attn_qkv.weight"    ? recipe->fused
                                                                       : std::array<Choice, 2>{};
  for (const Choice &choice : choices)
    if (holds (choice.where, place.index, place.count, query_groups_))
      return choice.type;
  return base;
}

uint32_t
gguf_file_type (DType type, GgufMix mix)
{
  switch (type) {
  case DType::kF32:
    return 0;
  case DType::kF16:
    return 1;
  case DType::kQ4_0:
    return 2;
  case DType::kQ4_1:
    return 3;
  case DType::kQ8_0:
    return 7;
  case DType::kQ5_0:
    return 8;
  case DType::kQ5_1:
    return 9;
  case DType::kQ2K:
    return mix == GgufMix::kQ2KS ? 21 : 10;
  case DType::kQ3K:
    return mix == GgufMix::kQ3KL ? 13 : mix == GgufMix::kQ3KM ? 12 : 11;
  case DType::kQ4K:
    return mix == GgufMix::kQ4KM ? 15 : 14;
  case DType::kQ5K:
    return mix == GgufMix::kQ5KM ? 17 : 16;
  case DType::kQ6K:
    return 18;
  case DType::kIQ4NL:
    return 25;
  case DType::kBF16:
    return 32;
  default:
    return 38; // MXFP4
  }
}

DType
fitting_gguf_type (DType type, int64_t columns)
{
  const auto fits = [&] (DType t) { return columns % static_cast<int64_t> (dtype_block (t).elements) == 0; };
  if (fits (type))
    return type;
  DType smaller = DType::kF16;
  switch (type) {
  case DType::kQ2K:
  case DType::kQ3K:
    smaller = DType::kIQ4NL;
    break;
  case DType::kQ4K:
    smaller = DType::kQ5_0;
    break;
  case DType::kQ5K:
    smaller = DType::kQ5_1;
    break;
  case DType::kQ6K:
    smaller = DType::kQ8_0;
    break;
  default:
    break;
  }
  return fits (smaller) ? smaller : DType::kF16;
}

} // namespace millrace
