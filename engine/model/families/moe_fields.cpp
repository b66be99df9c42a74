#include "engine/model/families/moe_fields.hpp"

#include "engine/model/families/decoder_fields.hpp"

namespace millrace
{

namespace
{

constexpr int64_t kMaxExperts = 1 << 12;
constexpr int64_t kMaxAllExperts = 1 << 16; ///< of all layers: each is named before it is looked for
constexpr int64_t kMaxChosen = 1 << 8;
constexpr int64_t kMaxIntermediate = 1 << 22;
constexpr double kMaxScale = 1e6;

} // namespace

MoeSpec
moe_spec (const JsonFields &config, const MoeTraits &traits, const ArchitectureSpec &spec)
{
  const char *key = traits.experts_keys.front ();
  for (const char *other : traits.experts_keys) {
    if (config.has (other)) {
      key = other;
      break;
    }
  }
  MoeSpec moe;
  moe.experts = config.integer (key, 1, kMaxExperts);
  if (const int64_t all = moe.experts * static_cast<int64_t> (spec.layers.size ()); all > kMaxAllExperts)
    config.fail (key, std::to_string (moe.experts) + " in each layer are " + std::to_string (all) +
                          " in all, above the limit of " + std::to_string (kMaxAllExperts) +
                          "; correct the file");
  moe.chosen = config.integer (traits.chosen_key, 1, kMaxChosen);
  if (moe.chosen > moe.experts)
    config.fail (traits.chosen_key, std::to_string (moe.chosen) + " is more than " + config.called (key) +
                                        ", " + std::to_string (moe.experts) + "; correct the file");
  moe.intermediate = config.integer (traits.intermediate_key, 1, kMaxIntermediate);
  moe.activation = std::get<MlpSpec> (spec.layers.front ().channel).activation;
  return moe;
}

void
read_groups (const JsonFields &config, MoeSpec &moe)
{
  RoutingSpec &routing = moe.routing;
  routing.groups = config.integer_or ("n_group", 1, kMaxExperts, 1);
  if (moe.experts % routing.groups != 0)
    config.fail ("n_group", std::to_string (routing.groups) + " does not divide the number of experts, " +
                                std::to_string (moe.experts) + "; correct the file");
  routing.chosen_groups = config.integer_or ("topk_group", 1, kMaxExperts, routing.groups);
  if (routing.chosen_groups > routing.groups)
    config.fail ("topk_group", std::to_string (routing.chosen_groups) + " is more than n_group, " +
                                   std::to_string (routing.groups) + "; correct the file");
  const int eligible = moe.experts / routing.groups * routing.chosen_groups;
  if (moe.chosen > eligible)
    config.fail ("topk_group", "leaves " + std::to_string (eligible) + " experts for the " +
                                   std::to_string (moe.chosen) + " of each token; correct the file");
  routing.normalized = config.boolean_or ("norm_topk_prob", true);
  routing.scale = config.number_or ("routed_scaling_factor", 1e-6, kMaxScale, 1);
}

void
read_shared_experts (const JsonFields &config, const std::string &prefix, bool bias, MoeSpec &moe)
{
  const int64_t shared = config.integer_or ("n_shared_experts", 0, kMaxExperts, 0);
  const int64_t width = shared * moe.intermediate;
  if (width > kMaxIntermediate)
    config.fail ("n_shared_experts", std::to_string (shared) + " of moe_intermediate_size " +
                                         std::to_string (moe.intermediate) + " are more than " +
                                         std::to_string (kMaxIntermediate) + " wide; correct the file");
  moe.shared.intermediate = static_cast<int> (width);
  moe.shared.activation = moe.activation;
  moe.shared.tensors.gate = prefix + "gate_proj.weight";
  moe.shared.tensors.up = prefix + "up_proj.weight";
  moe.shared.tensors.down = prefix + "down_proj.weight";
  if (bias) {
    moe.shared.tensors.gate_bias = prefix + "gate_proj.bias";
    moe.shared.tensors.up_bias = prefix + "up_proj.bias";
    moe.shared.tensors.down_bias = prefix + "down_proj.bias";
  }
}

ExpertTensors
separate_experts (const std::string &prefix)
{
  ExpertTensors tensors;
  tensors.gate = prefix + "*.gate_proj.weight";
  tensors.up = prefix + "*.up_proj.weight";
  tensors.down = prefix + "*.down_proj.weight";
  return tensors;
}

std::vector<bool>
sparse_layers (const JsonFields &config, size_t layers)
{
  std::vector<bool> sparse;
  const auto types = config.texts ("mlp_layer_types");
  if (config.has ("mlp_layer_types")) {
    if (types.size () != layers)
      config.fail ("mlp_layer_types", "has " + std::to_string (types.size ()) +
                                          " entries for num_hidden_layers " + std::to_string (layers) +
                                          "; correct the file");
    for (const std::string &type : types) {
      if (type != "dense" && type != "sparse")
        config.fail ("mlp_layer_types",
                     "\"" + type.substr (0, 80) + "\" is not supported; supported are dense and sparse");
      sparse.push_back (type == "sparse");
    }
    return sparse;
  }
  const int dense = config.integer_or ("first_k_dense_replace", 0, INT32_MAX, 0);
  for (size_t i = 0; i < layers; ++i)
    sparse.push_back (i >= static_cast<size_t> (dense));
  return sparse;
}

} // namespace millrace
