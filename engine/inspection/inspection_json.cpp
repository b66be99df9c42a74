// An inspection as JSON.
#include "engine/inspection/inspection.hpp"

#include "engine/json_text.hpp"
#include "engine/tokenizer/utf8.hpp"

namespace millrace
{

namespace
{

/// Objects and arrays, members in the order in which they are written.
class Writer
{
public:
  std::string take () { return std::move (json_); }

  Writer &open (char bracket)
  {
    separate ();
    json_ += bracket;
    return *this;
  }
  Writer &close (char bracket)
  {
    json_ += bracket;
    return *this;
  }
  Writer &key (std::string_view name)
  {
    separate ();
    append_json_string (json_, name);
    json_ += ":";
    return *this;
  }
  void value (std::string_view text)
  {
    separate ();
    append_json_string (json_, utf8::to_valid (text));
  }
  void value (const char *text) { value (std::string_view (text)); }
  void value (const std::string &text) { value (std::string_view (text)); }
  void value (bool flag)
  {
    separate ();
    json_ += flag ? "true" : "false";
  }
  void value (uint64_t number)
  {
    separate ();
    json_ += std::to_string (number);
  }
  void value (int number)
  {
    separate ();
    json_ += std::to_string (number);
  }
  template <typename T>
  void value (const std::vector<T> &values)
  {
    open ('[');
    for (const T &each : values)
      value (each);
    close (']');
  }
  template <typename T>
  void member (std::string_view name, const T &thing)
  {
    key (name).value (thing);
  }

private:
  /// A comma between two values.
  void separate ()
  {
    if (!json_.empty () && json_.back () != '{' && json_.back () != '[' && json_.back () != ':')
      json_ += ',';
  }

  std::string json_;
};

void
write_architecture (Writer &json, const Inspection &inspection)
{
  json.member ("name", inspection.architecture);
  json.member ("supported", inspection.spec.has_value ());
  if (!inspection.spec)
    return;
  const ArchitectureSpec &spec = *inspection.spec;
  json.member ("hidden_size", spec.hidden);
  json.member ("context_length", spec.max_positions);
  json.member ("vocabulary", spec.vocab);
  json.member ("tied_head", spec.tied_head);
  json.member ("heads", inspection.heads);
  json.member ("rope", inspection.ropes);
  json.member ("layers", static_cast<int> (spec.layers.size ()));
  json.key ("layer_kinds").open ('[');
  for (const LayerGroup &group : inspection.layers) {
    json.open ('{');
    json.member ("mixer", group.mixer);
    json.member ("channel", group.channel);
    json.member ("layers", group.layers);
    json.close ('}');
  }
  json.close (']');
}

void
write_weights (Writer &json, const Inspection &inspection)
{
  json.member ("files", inspection.files);
  json.member ("file_bytes", inspection.file_bytes);
  json.member ("parameters", inspection.parameters);
  json.member ("active_parameters", inspection.active_parameters);
  json.key ("tensors").open ('[');
  for (const TensorGroup &group : inspection.tensors) {
    json.open ('{');
    json.member ("role", group.role);
    json.member ("type", group.type);
    json.member ("tensors", group.tensors);
    json.member ("parameters", group.parameters);
    json.member ("bytes", group.bytes);
    json.close ('}');
  }
  json.close (']');
  json.member ("missing", inspection.missing_tensors);
  json.member ("left_over", inspection.left_over_tensors);
}

void
write_text (Writer &json, const Inspection &inspection)
{
  json.member ("kind", inspection.tokenizer);
  json.member ("tokens", inspection.tokens);
  json.key ("special_tokens").open ('[');
  for (const Inspection::SpecialToken &token : inspection.special_tokens) {
    json.open ('{');
    json.member ("id", token.id);
    json.member ("text", token.text);
    json.close ('}');
  }
  json.close (']');
  json.member ("bos_token", inspection.bos_token);
  json.member ("eos_token_ids", inspection.eos_ids);
}

void
write_memory (Writer &json, const Inspection &inspection)
{
  json.member ("weight_bytes", inspection.weight_bytes);
  json.key ("weight_formats").open ('{');
  for (const auto &[format, bytes] : inspection.packed)
    json.member (format, bytes);
  json.close ('}');
  json.member ("kv_tokens", inspection.kv_tokens);
  json.key ("kv_bytes").open ('{');
  for (const KvMemory &memory : inspection.kv)
    json.member (memory.type, memory.bytes);
  json.close ('}');
  json.member ("state_bytes", inspection.state_bytes);
  json.member ("available_bytes", inspection.available_bytes);
}

} // namespace

std::string
inspection_json (const Inspection &inspection)
{
  Writer json;
  json.open ('{');
  json.member ("path", inspection.path.string ());
  json.member ("form", inspection.form);
  json.key ("architecture").open ('{');
  write_architecture (json, inspection);
  json.close ('}');
  json.key ("weights").open ('{');
  write_weights (json, inspection);
  json.close ('}');
  json.key ("tokenizer").open ('{');
  write_text (json, inspection);
  json.close ('}');
  json.member ("chat_template", inspection.chat_template);
  json.key ("memory").open ('{');
  write_memory (json, inspection);
  json.close ('}');
  json.member ("loads", inspection.loads ());
  json.member ("fits", inspection.loads () && inspection.fits ());
  json.key ("problems").open ('[');
  for (const InspectionProblem &problem : inspection.problems) {
    json.open ('{');
    json.member ("subject", problem.subject);
    json.member ("message", problem.message);
    json.close ('}');
  }
  json.close (']');
  json.member ("warnings", inspection.warnings);
  json.close ('}');
  return json.take ();
}

} // namespace millrace
