// The tables of a Program while its operations are written.
#include "engine/model/program_writer.hpp"

#include <algorithm>

namespace millrace
{

ProgramWriter::ProgramWriter (const ArchitectureSpec &spec)
    : spec_ (spec)
{
  program_.vocab = spec.vocab;
  program_.hidden = spec.hidden;
  program_.max_positions = spec.max_positions;
}

BufferId
ProgramWriter::buffer (std::string_view purpose, int width, BufferRef::Rows rows)
{
  auto found = buffers_.find (purpose);
  if (found == buffers_.end ()) {
    found = buffers_.emplace (purpose, static_cast<BufferId> (program_.buffers.size ())).first;
    program_.buffers.push_back ({width, rows});
  }
  BufferRef &ref = program_.buffers[static_cast<size_t> (found->second)];
  ref.width = std::max (ref.width, width);
  return found->second;
}

WeightId
ProgramWriter::weight (const WeightRef &ref)
{
  const auto [entry, added] = weights_.try_emplace (std::tuple (ref.name, ref.first_output, ref.part.first),
                                                    static_cast<WeightId> (program_.weights.size ()));
  if (added)
    program_.weights.push_back (ref);
  return entry->second;
}

WeightId
ProgramWriter::matrix (const std::string &tensor, int outputs, int inputs)
{
  return weight ({.name = tensor, .outputs = outputs, .inputs = inputs});
}

WeightId
ProgramWriter::norm (const std::string &tensor, int count)
{
  return weight ({.name = tensor, .outputs = count, .offset = static_cast<float> (spec_.norm_offset)});
}

// Layers with the same rotation share a table, and so its sines of a pass.
RopeId
ProgramWriter::rope (const RopeSpec &rope)
{
  const RopeTable table{rope_inverse_frequencies (rope), static_cast<float> (rope.attention_factor),
                        rope_long_inverse_frequencies (rope), rope.original_max_positions};
  if (table.inverse_frequencies.empty ())
    return kNone;
  const auto found = std::ranges::find (program_.ropes, table);
  const auto id = static_cast<RopeId> (found - program_.ropes.begin ());
  if (found == program_.ropes.end ())
    program_.ropes.push_back (table);
  return id;
}

KvLayerId
ProgramWriter::kv_layer (const KvLayer &layer)
{
  program_.kv_layers.push_back (layer);
  return static_cast<KvLayerId> (program_.kv_layers.size ()) - 1;
}

StateLayerId
ProgramWriter::state_layer (const StateLayer &layer)
{
  program_.state_layers.push_back (layer);
  return static_cast<StateLayerId> (program_.state_layers.size ()) - 1;
}

void
ProgramWriter::rms_norm (BufferId in, const std::string &tensor, int count, BufferId out)
{
  emit (RmsNormOp{in, norm (tensor, count), out, epsilon ()});
}

void
Products::add (const std::string &tensor, const std::string &bias, int outputs, BufferId out, bool accumulate,
               int paired)
{
  rows_.push_back ({tensor, bias, outputs, paired, out, accumulate, groups_});
}

WeightId
Products::rows_of (size_t index, std::string Row::*tensor, int inputs) const
{
  const Row &row = rows_[index];
  WeightRef ref{.name = row.*tensor, .outputs = row.outputs, .inputs = inputs, .paired = row.paired};
  int total = 0;
  for (size_t i = 0; i < rows_.size (); ++i) {
    if (rows_[i].*tensor != ref.name)
      continue;
    if (i < index)
      ref.first_output += rows_[i].outputs;
    total += rows_[i].outputs;
  }
  ref.tensor_outputs = total == row.outputs ? 0 : total;
  if (ref.tensor_outputs > 0 && row.groups > 1) {
    ref.first_output /= row.groups;
    ref.run = row.outputs / row.groups;
    ref.stride = total / row.groups;
  }
  return writer_.weight (ref);
}

void
Products::emit ()
{
  for (size_t i = 0; i < rows_.size (); ++i) {
    const WeightId weight = rows_of (i, &Row::tensor, inputs_);
    const WeightId bias = rows_[i].bias.empty () ? kNone : rows_of (i, &Row::bias, 0);
    op_.projections.push_back ({weight, bias, rows_[i].out, rows_[i].accumulate});
  }
  writer_.emit (std::move (op_));
}

GatedOp::Activation
gated_activation (Activation activation)
{
  switch (activation) {
  case Activation::kGeluTanh:
    return GatedOp::Activation::kGeluTanh;
  case Activation::kGelu:
    return GatedOp::Activation::kGelu;
  case Activation::kRelu: // of x · x where there is no gate
    return GatedOp::Activation::kRelu;
  case Activation::kSilu:
    break;
  }
  return GatedOp::Activation::kSilu;
}

} // namespace millrace
