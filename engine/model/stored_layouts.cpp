#include "engine/model/stored_layouts.hpp"

#include "engine/weights/weight_files.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

namespace
{

constexpr std::string_view kExperts = "experts.", kWeight = ".weight";

/// One of an expert's matrices, and its bias.
struct Kind {
  WeightId ExpertsOp::Expert::*weight, ExpertsOp::Expert::*bias;
  std::string_view name, short_name; ///< in PREFIX.experts.0.NAME.weight; of an MLP of two matrices
  int place, of;                     ///< of the outputs in the tensor that has both gate and up
};

constexpr Kind kKinds[] = {
    {&ExpertsOp::Expert::gate, &ExpertsOp::Expert::gate_bias, "gate_proj", "", 0, 2},
    {&ExpertsOp::Expert::up, &ExpertsOp::Expert::up_bias, "up_proj", "fc1", 1, 2},
    {&ExpertsOp::Expert::down, &ExpertsOp::Expert::down_bias, "down_proj", "fc2", 0, 1}};

class Layouts
{
public:
  Layouts (Program &program, const WeightFiles &files)
      : program_ (program)
      , files_ (files)
  {
  }

  void settle ()
  {
    for (const Op &op : program_.ops) {
      if (const auto *experts = std::get_if<ExpertsOp> (&op))
        for (size_t i = 0; i < experts->experts.size (); ++i)
          settle_expert (experts->experts[i], static_cast<int64_t> (i),
                         static_cast<int64_t> (experts->experts.size ()));
      if (const auto *parts = std::get_if<PartsLinearOp> (&op))
        for (size_t i = 0; i < parts->weights.size (); ++i)
          settle_head (weight (parts->weights[i]), static_cast<int64_t> (i),
                       static_cast<int64_t> (parts->weights.size ()));
    }
  }

private:
  WeightRef &weight (WeightId id) { return program_.weights[static_cast<size_t> (id)]; }

  void settle_expert (const ExpertsOp::Expert &expert, int64_t index, int64_t count)
  {
    for (const Kind &kind : kKinds) {
      if (expert.*kind.weight != kNone)
        settle_matrix (weight (expert.*kind.weight), kind, index, count);
      if (expert.*kind.bias != kNone)
        settle_bias (weight (expert.*kind.bias), kind, index, count);
    }
  }

  void settle_matrix (WeightRef &ref, const Kind &kind, int64_t index, int64_t count)
  {
    if (files_.contains (ref.name)) {
      if (files_.coded (ref.name) && ref.part.input_step != 1)
        take_rows (ref);
      return;
    }
    const size_t at = ref.name.rfind (kExperts);
    if (at == std::string::npos)
      return;
    const std::string prefix = ref.name.substr (0, at), own (kind.name);
    std::vector<std::string> names{prefix + "switch_mlp." + own + ".weight",
                                   prefix + "experts.switch_glu." + own + ".weight",
                                   prefix + "experts." + own + ".weight"};
    if (!kind.short_name.empty ())
      names.push_back (prefix + "switch_mlp." + std::string (kind.short_name) + ".weight");
    for (const std::string &name : names)
      if (files_.contains (name))
        return take_stacked (ref, name, index, count, 0, 1);
    const std::string fused = prefix + (kind.of > 1 ? "experts.gate_up_proj" : "experts.down_proj");
    if (files_.contains (fused))
      take_stacked (ref, fused, index, count, kind.place, kind.of);
  }

  /// One of `count` matrices, of whose outputs the weight has those at `place` of `of`.
  static void take_stacked (WeightRef &ref, const std::string &name, int64_t index, int64_t count,
                            int64_t place, int64_t of)
  {
    const int64_t outputs = ref.outputs, inputs = ref.inputs;
    ref.name = name;
    ref.part = {.shape = {count, of * outputs, inputs},
                .first = (index * of + place) * outputs * inputs,
                .output_step = inputs};
  }

  /// Of a matrix of codes, whose rows are outputs, what would be its columns. gate_up_proj's outputs still take turns.
  static void take_rows (WeightRef &ref)
  {
    const int64_t inputs = ref.inputs, outputs = ref.part.shape.back (), turns = ref.part.output_step;
    const int64_t index = ref.part.first / (inputs * outputs), place = ref.part.first % (inputs * outputs);
    ref.part = {.shape = {ref.part.shape.front (), outputs, inputs},
                .first = (index * outputs + place) * inputs,
                .output_step = turns * inputs};
  }

  void settle_bias (WeightRef &ref, const Kind &kind, int64_t index, int64_t count)
  {
    const size_t at = ref.name.rfind (kExperts);
    if (files_.contains (ref.name) || at == std::string::npos)
      return;
    const std::string name = ref.name.substr (0, at) + "experts." + std::string (kind.name) + ".bias";
    if (!files_.contains (name))
      return;
    ref.name = name;
    ref.part = {.shape = {count, ref.outputs}, .first = index * ref.outputs, .output_step = 1};
  }

  /// K of a head, which is needed transposed, or V.
  void settle_head (WeightRef &ref, int64_t head, int64_t heads)
  {
    constexpr std::string_view kBoth = "kv_b_proj.weight";
    if (!ref.name.ends_with (kBoth) || files_.contains (ref.name))
      return;
    const bool keys = !ref.part.shape.empty ();
    const std::string name = ref.name.substr (0, ref.name.size () - kBoth.size ()) +
                             (keys ? "embed_q" : "unembed_out") + std::string (kWeight);
    if (!files_.contains (name))
      return;
    ref.first_output = ref.tensor_outputs = 0;
    take_stacked (ref, name, head, heads, 0, 1);
  }

  Program &program_;
  const WeightFiles &files_;
};

} // namespace

void
settle_layouts (Program &program, const WeightFiles &files)
{
  Layouts (program, files).settle ();
}

} // namespace millrace
