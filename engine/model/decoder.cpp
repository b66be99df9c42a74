#include "engine/model/decoder.hpp"

#include "engine/model/decoder_layer_inputs.hpp"
#include "engine/model/decoder_mixers.hpp"
#include "engine/model/norm_centres.hpp"
#include "engine/model/stored_layouts.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

class Decoder
{
public:
  explicit Decoder (const ArchitectureSpec &spec)
      : spec_ (spec)
      , writer_ (spec)
      , residual_ (writer_.buffer ("residual", spec.hidden))
  {
  }

  Program build ()
  {
    writer_.emit (EmbedOp{writer_.matrix (spec_.embedding_tensor, spec_.vocab, spec_.hidden), residual_,
                          static_cast<float> (spec_.embedding_scale)});
    write_layer_inputs (writer_, residual_);
    for (size_t i = 0; i < spec_.layers.size (); ++i)
      layer (spec_.layers[i], static_cast<int> (i));
    const BufferId selected = writer_.buffer ("selected", spec_.hidden, BufferRef::Rows::kOutput);
    writer_.emit (SelectOp{residual_, selected});
    writer_.rms_norm (selected, spec_.final_norm_tensor, spec_.hidden, selected);
    writer_.emit (HiddenOp{selected});
    // A tied head has the embedding's name and so is the same weight.
    writer_.emit (HeadOp{selected, writer_.matrix (spec_.head_tensor, spec_.vocab, spec_.hidden),
                         static_cast<float> (spec_.logit_scale), static_cast<float> (spec_.logit_softcap)});
    return writer_.take ();
  }

private:
  void layer (const LayerSpec &layer, int index)
  {
    sublayer (layer.mixer_norms, layer.mixer);
    kv_layers_.resize (static_cast<size_t> (index) + 1, kNone);
    sublayer (layer.channel_norms, layer.channel);
    write_layer_input (writer_, layer.input, index, residual_);
    if (!layer.scalar.empty ())
      writer_.emit (
          ScaleOp{residual_, spec_.hidden, 1, writer_.weight ({.name = layer.scalar, .outputs = 1})});
  }

  // A mixer adds to the residual stream itself when nothing is done with its result.
  template <typename Mixer>
  void sublayer (const SublayerNorms &norms, const Mixer &mixer)
  {
    if (std::holds_alternative<std::monostate> (mixer))
      return;
    MixerPorts ports{residual_, residual_, true, residual_};
    if (!norms.pre.empty ()) {
      ports.in = writer_.buffer ("normed", spec_.hidden);
      writer_.rms_norm (residual_, norms.pre, spec_.hidden, ports.in);
    }
    const bool plain = norms.post.empty () && spec_.residual_multiplier == 1;
    if (!plain) {
      ports.out = writer_.buffer ("branch", spec_.hidden);
      ports.accumulate = false;
    }
    std::visit ([&] (const auto &alternative) { write (alternative, ports); }, mixer);
    if (plain)
      return;
    if (!norms.post.empty ())
      writer_.rms_norm (ports.out, norms.post, spec_.hidden, ports.out);
    writer_.emit (AddOp{ports.out, residual_, spec_.hidden, static_cast<float> (spec_.residual_multiplier)});
  }

  void write (std::monostate, const MixerPorts &) {}
  void write (const AttentionSpec &attention, const MixerPorts &ports)
  {
    write_attention (writer_, attention, ports, kv_layers_);
  }
  void write (const GatedDeltaSpec &delta, const MixerPorts &ports)
  {
    write_gated_delta (writer_, delta, ports);
  }
  void write (const Mamba2Spec &mamba, const MixerPorts &ports) { write_mamba2 (writer_, mamba, ports); }
  void write (const LatentAttentionSpec &attention, const MixerPorts &ports)
  {
    write_latent_attention (writer_, attention, ports, kv_layers_);
  }
  void write (const MlpSpec &mlp, const MixerPorts &ports) { write_mlp (writer_, mlp, ports); }
  void write (const MoeSpec &moe, const MixerPorts &ports) { write_moe (writer_, moe, ports); }

  const ArchitectureSpec &spec_;
  ProgramWriter writer_;
  BufferId residual_;
  std::vector<KvLayerId> kv_layers_; ///< of the layers that are written
};

} // namespace

Program
build_program (const ArchitectureSpec &spec)
{
  return Decoder (spec).build ();
}

namespace
{

/// Tensors named as the files have them.
void
settle_names (const ArchitectureSpec &spec, const WeightFiles &files, Program &program)
{
  if (spec.tensor_prefixes.empty () || files.contains (spec.embedding_tensor))
    return;
  const std::string &prefix = spec.tensor_prefixes.front ();
  for (const std::string &other : spec.tensor_prefixes) {
    if (!files.contains (other + spec.embedding_tensor.substr (prefix.size ())))
      continue;
    // "language_model.model." stands beside "language_model.lm_head.weight".
    const std::string head = other.substr (0, other.find ('.') + 1) + spec.head_tensor;
    for (WeightRef &weight : program.weights) {
      if (weight.name.starts_with (prefix))
        weight.name = other + weight.name.substr (prefix.size ());
      else if (weight.name == spec.head_tensor && !files.contains (weight.name) && files.contains (head))
        weight.name = head;
    }
    break;
  }
}

/// Of nemotron_h the reference has no biases in attention, and always a head of its own, whatever attention_bias and
/// tie_word_embeddings say; other tools do as they say. The file tells.
ArchitectureSpec
as_stored (const ArchitectureSpec &spec, const WeightFiles &files)
{
  constexpr const char *kHead = "lm_head.weight";
  ArchitectureSpec stored = spec;
  if (files.contains (kHead)) {
    stored.tied_head = false;
    stored.head_tensor = kHead;
  }
  for (LayerSpec &layer : stored.layers)
    if (auto *attention = std::get_if<AttentionSpec> (&layer.mixer)) {
      AttentionTensors &tensors = attention->tensors;
      const auto names = {&tensors.q_bias, &tensors.k_bias, &tensors.v_bias, &tensors.o_bias};
      if (std::ranges::none_of (names, [&] (const std::string *name) { return files.contains (*name); }))
        for (std::string *name : names)
          name->clear ();
    }
  return stored;
}

} // namespace

Program
build_program (const ArchitectureSpec &spec, const WeightFiles &files)
{
  Program program =
      build_program (spec.family == "nemotron_h" && !files.of_gguf () ? as_stored (spec, files) : spec);
  settle_names (spec, files, program);
  if (!files.of_gguf ()) { // whose converters have settled them
    settle_layouts (program, files);
    settle_norms (program, files);
  }
  return program;
}

} // namespace millrace
