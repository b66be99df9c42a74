// An inspection for people: a table of what it is, what it takes, and what is wrong.
#include "engine/inspection/inspection.hpp"

#include "engine/size_text.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr size_t kLabelWidth = 16;
constexpr size_t kNamed = 12; ///< tensors or tokens that a list names

/// Lines of a label and what belongs to it.
class Table
{
public:
  std::string take () { return std::move (text_); }

  void line (const std::string &label, const std::string &value)
  {
    if (value.empty ())
      return;
    text_ += label + std::string (label.size () < kLabelWidth ? kLabelWidth - label.size () : 1, ' ') +
             value + "\n";
  }
  void lines (const std::string &label, const std::vector<std::string> &values)
  {
    for (size_t i = 0; i < values.size (); ++i)
      line (i == 0 ? label : "", values[i]);
  }

private:
  std::string text_;
};

std::string
padded (std::string text, size_t width)
{
  text.resize (std::max (width, text.size ()), ' ');
  return text;
}

std::string
listed (const std::vector<std::string> &names)
{
  std::string text;
  for (size_t i = 0; i < std::min (kNamed, names.size ()); ++i)
    text += (i > 0 ? ", " : "") + names[i];
  return names.size () > kNamed ? text + " and " + std::to_string (names.size () - kNamed) + " more" : text;
}

std::vector<std::string>
layer_lines (const Inspection &inspection)
{
  std::vector<std::string> lines;
  for (const LayerGroup &group : inspection.layers)
    lines.push_back (std::to_string (group.layers) + " of " + group.mixer +
                     (group.channel == "none" ? "" : "; " + group.channel));
  return lines;
}

std::vector<std::string>
tensor_lines (const Inspection &inspection)
{
  size_t role = 0, type = 0;
  for (const TensorGroup &group : inspection.tensors) {
    role = std::max (role, group.role.size ());
    type = std::max (type, group.type.size ());
  }
  std::vector<std::string> lines;
  for (const TensorGroup &group : inspection.tensors)
    lines.push_back (
        padded (group.role, role) + "  " + padded (group.type, type) + "  " +
        padded (std::to_string (group.tensors) + (group.tensors == 1 ? " tensor" : " tensors"), 13) + "  " +
        padded (count_text (group.parameters), 6) + "  " + size_text (group.bytes));
  return lines;
}

void
add_architecture (Table &table, const Inspection &inspection)
{
  table.line ("architecture",
              printable (inspection.architecture) + (inspection.spec ? "" : " (not supported)"));
  if (!inspection.spec)
    return;
  const ArchitectureSpec &spec = *inspection.spec;
  table.lines ("layers", layer_lines (inspection));
  table.line ("hidden size", std::to_string (spec.hidden));
  table.lines ("heads", inspection.heads);
  table.lines ("rope", inspection.ropes);
  table.line ("context", std::to_string (spec.max_positions) + " tokens");
  table.line ("vocabulary",
              std::to_string (spec.vocab) + (spec.tied_head ? ", head and embedding are one" : ""));
}

void
add_weights (Table &table, const Inspection &inspection)
{
  if (inspection.files > 0)
    table.line ("files", std::to_string (inspection.files) +
                             (inspection.files == 1 ? " file, " : " files, ") +
                             size_text (inspection.file_bytes));
  if (inspection.parameters > 0)
    table.line ("parameters", count_text (inspection.parameters) +
                                  (inspection.active_parameters < inspection.parameters
                                       ? ", " + count_text (inspection.active_parameters) + " for each token"
                                       : ""));
  table.lines ("tensors", tensor_lines (inspection));
}

void
add_text (Table &table, const Inspection &inspection)
{
  table.line ("tokenizer",
              inspection.tokenizer +
                  (inspection.tokens > 0 ? ", " + std::to_string (inspection.tokens) + " tokens" : ""));
  std::vector<std::string> special;
  for (const Inspection::SpecialToken &token : inspection.special_tokens)
    special.push_back (printable (token.text) + " " + std::to_string (token.id));
  table.line ("special tokens", listed (special));
  std::vector<std::string> ends;
  for (const TokenId id : inspection.eos_ids)
    ends.push_back (std::to_string (id));
  table.line ("end of text", listed (ends));
  table.line ("chat template", inspection.chat_template.empty () ? "none" : inspection.chat_template);
}

void
add_memory (Table &table, const Inspection &inspection)
{
  std::vector<std::string> formats;
  for (const auto &[format, bytes] : inspection.packed)
    formats.push_back (format + " " + size_text (bytes));
  if (inspection.weight_bytes > 0)
    table.line ("weights take", size_text (inspection.weight_bytes) + " of memory: " + listed (formats));
  std::vector<std::string> kv;
  for (const KvMemory &memory : inspection.kv)
    kv.push_back (memory.type + " " + size_text (memory.bytes));
  if (!kv.empty ())
    table.line ("KV takes", listed (kv) + " for " + std::to_string (inspection.kv_tokens) + " tokens");
  if (inspection.state_bytes > 0)
    table.line ("states take", size_text (inspection.state_bytes) + " for each sequence");
  if (inspection.available_bytes > 0)
    table.line ("free memory", size_text (inspection.available_bytes));
}

} // namespace

std::string
inspection_text (const Inspection &inspection)
{
  Table table;
  table.line ("model", inspection.path.string ());
  table.line ("form", inspection.form);
  add_architecture (table, inspection);
  add_weights (table, inspection);
  add_text (table, inspection);
  add_memory (table, inspection);
  table.line ("missing", listed (inspection.missing_tensors));
  table.line ("left over", listed (inspection.left_over_tensors));
  table.lines ("warning", inspection.warnings);
  for (const InspectionProblem &problem : inspection.problems)
    table.line ("problem", problem.subject + ": " + problem.message);
  table.line ("ready", !inspection.loads () ? "no"
                       : inspection.fits () ? "yes"
                                            : "it loads, but does not fit");
  return table.take ();
}

} // namespace millrace
