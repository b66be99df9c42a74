// Whether a program and a checkpoint are of the same model, by the names of the tensors.
#include "engine/model/tensor_names.hpp"

#include "engine/error.hpp"
#include "engine/weights/tensor_entry.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <vector>

namespace millrace
{

namespace
{

constexpr size_t kNamed = 8; ///< tensors that a message names

/// "a, b and 3 more"
std::string
listed (const std::vector<std::string> &names)
{
  std::string text;
  for (size_t i = 0; i < std::min (kNamed, names.size ()); ++i)
    text += (i > 0 ? ", " : "") + printable (names[i]);
  return names.size () > kNamed ? text + " and " + std::to_string (names.size () - kNamed) + " more" : text;
}

/// Of a layer behind the last: drafts of more tokens at once (multi-token prediction) are stored so.
bool
is_of_later_layer (std::string_view name, size_t layers)
{
  for (const std::string_view before : {"layers.", "blk."}) {
    const size_t at = name.find (before);
    size_t index = 0;
    if (at == std::string_view::npos)
      continue;
    const char *begin = name.data () + at + before.size ();
    return std::from_chars (begin, name.data () + name.size (), index).ec == std::errc () && index >= layers;
  }
  return false;
}

/// What is computed with, though not as a weight, or made anew: factors and frequencies of rotations.
bool
is_of_rotation (std::string_view name)
{
  return name.ends_with ("rotary_emb.inv_freq") || name.ends_with ("attn_rot_embd.weight") ||
         name == "rope_freqs.weight" || name == "rope_factors_short.weight" ||
         name == "rope_factors_long.weight";
}

/// Of activations, or of keys and values, which are not rounded as these say.
bool
is_scale_of_activations (std::string_view name)
{
  for (const std::string_view end :
       {".input_scale", ".output_scale", ".k_scale", ".v_scale", ".activation_scale"})
    if (name.ends_with (end))
      return true;
  return false;
}

/// What the name begins with in this checkpoint, of those that the spec knows.
std::string
prefix_of (const Program &program, const ArchitectureSpec &spec)
{
  for (const std::string &prefix : spec.tensor_prefixes)
    if (program.weights.front ().name.starts_with (prefix))
      return prefix;
  return {};
}

} // namespace

std::vector<std::string>
missing_tensors (const Program &program, const WeightFiles &files)
{
  std::vector<std::string> missing;
  std::set<std::string_view> seen;
  for (const WeightRef &weight : program.weights)
    if (!files.contains (weight.name) && seen.insert (weight.name).second)
      missing.push_back (weight.name);
  return missing;
}

void
require_tensors (const Program &program, const WeightFiles &files)
{
  const std::vector<std::string> missing = missing_tensors (program, files);
  if (missing.empty ())
    return;
  if (missing.size () == 1)
    files.require (missing.front (), {});
  const std::vector<std::string> others (missing.begin () + 1, missing.end ());
  throw LoadError (files.file_of (missing.front ()), printable (missing.front ()),
                   "is missing, and so " + std::string (others.size () == 1 ? "is " : "are ") +
                       listed (others) + "; fetch weights that belong to the configuration beside them");
}

std::vector<std::string>
left_over_tensors (const Program &program, const ArchitectureSpec &spec, const WeightFiles &files)
{
  const std::string prefix = prefix_of (program, spec);
  std::set<std::string> known;
  for (const std::string &name : spec.unread_tensors)
    known.insert (prefix.empty () ? name : prefix + name.substr (spec.tensor_prefixes.front ().size ()));
  for (const WeightRef &weight : program.weights)
    known.insert (weight.name);
  std::vector<std::string> unread;
  for (const auto &[name, tensor] : files.tensors ()) {
    if (known.contains (name) || !name.starts_with (prefix) || is_of_rotation (name) ||
        is_scale_of_activations (name) || name.starts_with ("mtp.") ||
        (spec.tied_head && name == "lm_head.weight") || is_of_later_layer (name, spec.layers.size ()))
      continue;
    unread.push_back (name);
  }
  return unread;
}

std::string
unread_tensors (const Program &program, const ArchitectureSpec &spec, const WeightFiles &files)
{
  const std::vector<std::string> unread = left_over_tensors (program, spec, files);
  if (unread.empty ())
    return {};
  return files.path ().string () + ": holds " + std::to_string (unread.size ()) +
         (unread.size () == 1 ? " tensor" : " tensors") + " that a " + spec.family +
         " model of this configuration does not have, and nothing is computed with: " + listed (unread);
}

} // namespace millrace
