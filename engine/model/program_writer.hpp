// The tables of a Program while its operations are written.
//
// Private to engine/model: what decoder_*.cpp have in common. A weight is asked for by its tensor's name and is the same when
// it is asked for again. Buffers are asked for by what they are for: all layers share one of a name, as wide as the widest
// that was asked for. Not for several threads.
#pragma once

#include "engine/backend/program.hpp"
#include "engine/model/architecture_spec.hpp"

#include <map>
#include <string>
#include <string_view>
#include <tuple>

namespace millrace
{

/// Where a mixer's input is, and where its result goes.
struct MixerPorts {
  BufferId in;
  BufferId out;
  bool accumulate;   ///< adds to what `out` holds
  BufferId residual; ///< what `in` is the norm of
};

class ProgramWriter
{
public:
  explicit ProgramWriter (const ArchitectureSpec &spec);

  const ArchitectureSpec &spec () const { return spec_; }
  float epsilon () const { return static_cast<float> (spec_.norm_epsilon); }

  BufferId buffer (std::string_view purpose, int width, BufferRef::Rows rows = BufferRef::Rows::kToken);

  WeightId weight (const WeightRef &ref);
  WeightId matrix (const std::string &tensor, int outputs, int inputs);
  /// A norm's weights.
  WeightId norm (const std::string &tensor, int count);
  RopeId rope (const RopeSpec &rope);
  KvLayerId kv_layer (const KvLayer &layer);
  const KvLayer &kv_layer (KvLayerId id) const { return program_.kv_layers[static_cast<size_t> (id)]; }

  StateLayerId state_layer (const StateLayer &layer);

  void emit (Op op) { program_.ops.push_back (std::move (op)); }
  void rms_norm (BufferId in, const std::string &tensor, int count, BufferId out);

  Program take () { return std::move (program_); }

private:
  const ArchitectureSpec &spec_;
  Program program_;
  /// By tensor, first output and first element.
  std::map<std::tuple<std::string, int, int64_t>, WeightId> weights_;
  std::map<std::string, BufferId, std::less<>> buffers_;
};

/// The products of one input, of matrices that may be rows of one tensor: those of an equal name follow each other in it.
class Products
{
public:
  Products (ProgramWriter &writer, BufferId in, int inputs)
      : writer_ (writer)
      , inputs_ (inputs)
      , op_{in, {}}
  {
  }

  /// `bias`: or empty. `paired`: WeightRef::paired.
  void add (const std::string &tensor, const std::string &bias, int outputs, BufferId out,
            bool accumulate = false, int paired = 0);
  /// From now on rows of a tensor that several share come in `groups` groups, each with rows of all of them.
  void group (int groups) { groups_ = groups; }
  void emit ();

private:
  struct Row {
    std::string tensor, bias;
    int outputs, paired;
    BufferId out;
    bool accumulate;
    int groups;
  };

  WeightId rows_of (size_t index, std::string Row::*tensor, int inputs) const;

  ProgramWriter &writer_;
  int inputs_;
  int groups_ = 1;
  LinearOp op_;
  std::vector<Row> rows_;
};

GatedOp::Activation gated_activation (Activation activation);

} // namespace millrace
