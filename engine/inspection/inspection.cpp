#include "engine/inspection/inspection.hpp"

#include "engine/error.hpp"
#include "engine/inspection/layer_text.hpp"
#include "engine/inspection/tensor_roles.hpp"
#include "engine/kv/kv_layout.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/model_files.hpp"
#include "engine/model/tensor_names.hpp"
#include "engine/size_text.hpp"
#include "engine/tensor/available_memory.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr const char *kMemory = "memory";
constexpr const char *kOther = "other";

std::string
type_text (const WeightFiles &files, const std::string &name, const TensorView &tensor)
{
  if (const AffineTensor *affine = files.affine (name))
    return "affine " + std::to_string (affine->codes.bits) + " bits, groups of " +
           std::to_string (affine->codes.group);
  if (const CodedMatrix *coded = files.coded (name))
    return coded->description ();
  return std::string (dtype_name (tensor.dtype));
}

uint64_t
stored_bytes (const WeightFiles &files, const std::string &name, const TensorView &tensor)
{
  const AffineTensor *affine = files.affine (name);
  uint64_t bytes = tensor.data.size () + (affine ? affine->scales.size () + affine->biases.size () : 0);
  if (const CodedMatrix *coded = files.coded (name)) {
    bytes = 0;
    for (const CodedMatrix::Part &part : coded->parts ())
      bytes += part.data.size ();
  }
  return bytes;
}

class Inspector
{
public:
  Inspector (const fs::path &path, const InspectionOptions &options)
      : options_ (options)
  {
    result_.path = path;
  }

  Inspection run ()
  {
    attempt ("model", [&] { files_ = open_model_files (result_.path); });
    if (!files_)
      return std::move (result_);
    result_.form = files_->of_gguf () ? "GGUF file" : "safetensors folder";
    result_.architecture = files_->architecture_name ();
    // A file is the subject of the step that is about it: config.json says how weights are quantized, GGUF's tensors what
    // the architecture is.
    const auto read_weights = [&] { attempt ("weights", [&] { weights_ = &files_->weights (); }); };
    if (files_->of_gguf ())
      read_weights ();
    attempt ("architecture", [&] { result_.spec = files_->architecture (); });
    if (!files_->of_gguf ())
      read_weights ();
    read_texts ();
    read_files ();
    if (result_.spec)
      read_spec (*result_.spec);
    return std::move (result_);
  }

private:
  /// What is thrown is a problem of `subject`.
  template <typename Step>
  void attempt (const char *subject, const Step &step)
  {
    try {
      step ();
    } catch (const std::exception &error) {
      add_problem (subject, error.what ());
    }
  }

  void add_problem (const char *subject, const std::string &message)
  {
    const auto known = [&] (const InspectionProblem &problem) { return problem.message == message; };
    if (std::ranges::none_of (result_.problems, known)) // one file may be in the way of several steps
      result_.problems.push_back ({subject, message});
  }

  void read_texts ()
  {
    const int vocab = result_.spec ? result_.spec->vocab : std::numeric_limits<int>::max ();
    GenerationConfig generation;
    attempt ("generation", [&] { generation = files_->generation (); });
    if (result_.spec)
      attempt ("generation",
               [&] { result_.eos_ids = files_->end_of_sequence_ids (*result_.spec, generation); });
    attempt ("tokenizer", [&] { result_.tokenizer = files_->tokenizer_kind (); });
    attempt ("tokenizer", [&] { read_tokens (files_->tokenizer (vocab)); });
    attempt ("tokenizer", [&] { result_.bos_token = files_->bos_token (vocab); });
    attempt ("chat_template", [&] { result_.chat_template = files_->template_origin (); });
    attempt ("chat_template", [&] { files_->chat_template (); });
    if (result_.tokenizer.empty ())
      result_.warnings.emplace_back ("there is no tokenizer: token ids in and out");
  }

  void read_tokens (const std::shared_ptr<const Tokenizer> &tokenizer)
  {
    if (!tokenizer)
      return;
    result_.tokens = tokenizer->vocab_size ();
    for (TokenId id = 0; id < tokenizer->vocab_size (); ++id)
      if (tokenizer->is_known (id) && tokenizer->is_special (id))
        result_.special_tokens.push_back ({id, std::string (tokenizer->token_bytes (id))});
  }

  void read_files ()
  {
    if (!weights_)
      return;
    for (const MappedFile &file : weights_->files ()) {
      ++result_.files;
      result_.file_bytes += file.bytes ().size ();
    }
    if (!result_.spec)
      group_tensors ({}, *weights_);
  }

  /// By role and type, in the order of roles' first tensors.
  void group_tensors (const std::map<std::string, std::string> &roles, const WeightFiles &files)
  {
    std::map<std::tuple<std::string, std::string>, TensorGroup> groups;
    for (const auto &[name, tensor] : files.tensors ()) {
      const auto role = roles.find (name);
      TensorGroup &group =
          groups[{role == roles.end () ? kOther : role->second, type_text (files, name, tensor)}];
      ++group.tensors;
      group.parameters += static_cast<uint64_t> (tensor.element_count ());
      group.bytes += stored_bytes (files, name, tensor);
    }
    for (auto &[key, group] : groups) {
      std::tie (group.role, group.type) = key;
      result_.tensors.push_back (group);
    }
  }

  void read_spec (const ArchitectureSpec &spec)
  {
    result_.layers = layer_groups (spec);
    result_.heads = head_texts (spec);
    result_.ropes = rope_texts (spec);
    result_.kv_tokens = options_.kv_tokens > 0
                            ? options_.kv_tokens
                            : std::min (spec.max_positions, InspectionOptions::kUsualTokens);
    if (options_.kv_tokens > spec.max_positions)
      result_.warnings.push_back (std::to_string (options_.kv_tokens) +
                                  " tokens are more than the model's context of " +
                                  std::to_string (spec.max_positions));
    Program program = build_program (spec);
    const Program named_by_spec = program;
    if (weights_)
      attempt ("weights", [&] { program = build_program (spec, *weights_); });
    read_kv (program);
    if (!weights_)
      return;
    group_tensors (settled_roles (spec, named_by_spec, program), *weights_);
    count_parameters (spec, program);
    check_weights (spec, program);
    if (!result_.loads ())
      return;
    attempt ("weights", [&] { read_memory (program); });
  }

  /// The roles under the names that the files have.
  static std::map<std::string, std::string> settled_roles (const ArchitectureSpec &spec,
                                                           const Program &by_spec, const Program &settled)
  {
    const auto roles = tensor_roles (spec);
    std::map<std::string, std::string> result;
    for (size_t i = 0; i < by_spec.weights.size (); ++i)
      if (const auto role = roles.find (by_spec.weights[i].name); role != roles.end ())
        result.emplace (settled.weights[i].name, role->second);
    return result;
  }

  void count_parameters (const ArchitectureSpec &spec, const Program &program)
  {
    std::set<std::string_view> seen;
    uint64_t idle = 0;
    for (const WeightRef &weight : program.weights)
      if (const TensorView *tensor = weights_->find (weight.name); tensor && seen.insert (weight.name).second)
        result_.parameters += static_cast<uint64_t> (tensor->element_count ());
    for (const LayerSpec &layer : spec.layers)
      if (const auto *moe = std::get_if<MoeSpec> (&layer.channel)) {
        const uint64_t matrices = moe->tensors.gate.empty () ? 2 : 3;
        idle += static_cast<uint64_t> (moe->experts - moe->chosen) * matrices *
                static_cast<uint64_t> (moe->intermediate) * static_cast<uint64_t> (spec.hidden);
      }
    result_.active_parameters = result_.parameters - std::min (idle, result_.parameters);
  }

  void check_weights (const ArchitectureSpec &spec, const Program &program)
  {
    result_.missing_tensors = missing_tensors (program, *weights_);
    result_.left_over_tensors = left_over_tensors (program, spec, *weights_);
    if (!result_.missing_tensors.empty ())
      attempt ("weights", [&] { require_tensors (program, *weights_); });
    const std::set<std::string_view> missing (result_.missing_tensors.begin (),
                                              result_.missing_tensors.end ());
    std::set<std::string_view> seen;
    Program one;
    for (const WeightRef &weight : program.weights) {
      if (missing.contains (weight.name) || !seen.insert (weight.name).second)
        continue;
      one.weights = {weight};
      attempt ("weights", [&] { backend ().plan (one, *weights_, options_.weights); });
    }
    if (const size_t count = result_.left_over_tensors.size (); count > 0)
      result_.warnings.push_back (std::to_string (count) + (count == 1 ? " tensor is" : " tensors are") +
                                  " left over: the configuration may be of another model");
  }

  Backend &backend ()
  {
    if (!backend_)
      backend_ = create_cpu_backend ({.threads = 1});
    return *backend_;
  }

  /// Of one sequence that generates: a position at a time.
  void read_kv (const Program &program)
  {
    const auto of_type = [&] (KvType type) {
      KvMemory memory{kv_type_name (type), 0};
      for (const KvGroup &group : backend ().kv_layout (program, type)) {
        const uint64_t bytes =
            group.block_bytes * static_cast<uint64_t> (most_blocks (group, result_.kv_tokens, 1));
        if (group.kind == KvGroup::Kind::kRecurrent)
          result_.state_bytes = bytes;
        else
          memory.bytes += bytes;
      }
      return memory;
    };
    attempt ("architecture", [&] {
      result_.kv.push_back (of_type (options_.kv_type));
      for (int type = 0; type < kKvTypes; ++type)
        if (static_cast<KvType> (type) != options_.kv_type)
          result_.kv.push_back (of_type (static_cast<KvType> (type)));
    });
  }

  void read_memory (const Program &program)
  {
    for (const WeightMemory &format : backend ().plan (program, *weights_, options_.weights)) {
      result_.packed[format.format] += format.bytes;
      result_.weight_bytes += format.bytes;
    }
    result_.available_bytes = available_memory ();
    if (result_.fits ())
      return;
    const uint64_t kv = result_.kv.empty () ? 0 : result_.kv.front ().bytes;
    add_problem (kMemory,
                 "the weights take " + size_text (result_.weight_bytes) + ", " +
                     std::to_string (result_.kv_tokens) + " tokens of keys and values " + size_text (kv) +
                     (result_.state_bytes > 0 ? ", states " + size_text (result_.state_bytes) : "") + ": " +
                     size_text (result_.weight_bytes + kv + result_.state_bytes) + " in all, and " +
                     size_text (result_.available_bytes) +
                     " are free; use weights of fewer bits (--weights int8 or int4), a smaller KV type, "
                     "fewer tokens or another machine");
  }

  const InspectionOptions &options_;
  Inspection result_;
  std::unique_ptr<ModelFiles> files_;
  const WeightFiles *weights_ = nullptr;
  std::unique_ptr<Backend> backend_;
};

} // namespace

bool
Inspection::loads () const
{
  return std::ranges::all_of (problems,
                              [] (const InspectionProblem &problem) { return problem.subject == kMemory; });
}

bool
Inspection::fits () const
{
  return weight_bytes + state_bytes + (kv.empty () ? 0 : kv.front ().bytes) <= available_bytes;
}

Inspection
inspect_model (const fs::path &path, const InspectionOptions &options)
{
  return Inspector (path, options).run ();
}

} // namespace millrace
