#include "engine/inspection/tensor_roles.hpp"

#include <initializer_list>

namespace millrace
{

namespace
{

class Roles
{
public:
  std::map<std::string, std::string> take () { return std::move (roles_); }

  void add (const char *role, std::initializer_list<const std::string *> names)
  {
    for (const std::string *name : names)
      if (!name->empty ())
        roles_.emplace (*name, role);
  }

  void add (std::monostate) {}

  void add (const AttentionSpec &attention)
  {
    const AttentionTensors &t = attention.tensors;
    add ("norm", {&t.q_norm, &t.k_norm});
    add ("attention", {&t.q, &t.k, &t.v, &t.o, &t.q_bias, &t.k_bias, &t.v_bias, &t.o_bias, &t.sinks});
  }

  void add (const LatentAttentionSpec &attention)
  {
    const LatentAttentionTensors &t = attention.tensors;
    add ("norm", {&t.q_a_norm, &t.kv_a_norm});
    add ("attention", {&t.q, &t.q_a, &t.q_b, &t.kv_a, &t.kv_b, &t.k_b, &t.v_b, &t.o, &t.q_a_bias,
                       &t.kv_a_bias, &t.o_bias});
  }

  void add (const GatedDeltaSpec &delta)
  {
    const GatedDeltaTensors &t = delta.tensors;
    add ("norm", {&t.norm});
    add ("recurrent",
         {&t.q, &t.k, &t.v, &t.gate, &t.beta, &t.step, &t.convolution, &t.a_log, &t.step_bias, &t.output});
  }

  void add (const Mamba2Spec &mamba)
  {
    const Mamba2Tensors &t = mamba.tensors;
    add ("norm", {&t.norm});
    add ("recurrent", {&t.input, &t.input_bias, &t.convolution, &t.convolution_bias, &t.a_log, &t.step_bias,
                       &t.skip, &t.output, &t.output_bias});
  }

  void add (const MlpSpec &mlp) { add_mlp ("mlp", mlp.tensors); }

  void add (const MoeSpec &moe)
  {
    const RoutingSpec &routing = moe.routing;
    add ("router", {&routing.router, &routing.router_bias, &routing.correction, &routing.expert_scale});
    add ("norm", {&routing.norm, &moe.shared_norm, &moe.experts_pre, &moe.experts_post});
    add ("shared expert", {&moe.shared_gate});
    add_mlp ("shared expert", moe.shared.tensors);
    const ExpertTensors &t = moe.tensors;
    for (const std::string *name : {&t.gate, &t.up, &t.down, &t.gate_bias, &t.up_bias, &t.down_bias})
      add_experts (*name, moe.experts);
  }

private:
  void add_mlp (const char *role, const MlpTensors &t)
  {
    add (role, {&t.gate, &t.up, &t.down, &t.gate_bias, &t.up_bias, &t.down_bias});
  }

  void add_experts (const std::string &pattern, int experts)
  {
    const size_t at = pattern.find ('*');
    if (at == std::string::npos)
      return add ("experts", {&pattern});
    for (int i = 0; i < experts; ++i) {
      std::string name = pattern;
      name.replace (at, 1, std::to_string (i));
      add ("experts", {&name});
    }
  }

  std::map<std::string, std::string> roles_;
};

} // namespace

std::map<std::string, std::string>
tensor_roles (const ArchitectureSpec &spec)
{
  Roles roles;
  roles.add ("embedding", {&spec.embedding_tensor}); // first: it may be the head as well
  roles.add ("head", {&spec.head_tensor});
  roles.add ("norm", {&spec.final_norm_tensor, &spec.layer_inputs.norm});
  roles.add ("layer input", {&spec.layer_inputs.embedding, &spec.layer_inputs.projection});
  for (const LayerSpec &layer : spec.layers) {
    roles.add ("norm", {&layer.mixer_norms.pre, &layer.mixer_norms.post, &layer.channel_norms.pre,
                        &layer.channel_norms.post, &layer.input.norm, &layer.scalar});
    roles.add ("layer input", {&layer.input.gate, &layer.input.projection});
    std::visit ([&] (const auto &mixer) { roles.add (mixer); }, layer.mixer);
    std::visit ([&] (const auto &mixer) { roles.add (mixer); }, layer.channel);
  }
  return roles.take ();
}

} // namespace millrace
