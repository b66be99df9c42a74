#include "engine/hub/selection.hpp"

#include "engine/size_text.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <algorithm>
#include <array>
#include <fnmatch.h>
#include <stdexcept>

namespace millrace
{

namespace
{

constexpr std::string_view kSingleFile = "model.safetensors", kGguf = ".gguf";
/// Beside the weights.
constexpr std::array<std::string_view, 7> kModelFiles{
    "config.json",           "generation_config.json", "tokenizer.json",     "tokenizer.model",
    "tokenizer_config.json", "added_tokens.json",      "chat_template.jinja"};
constexpr size_t kNamed = 12; ///< files that a message names

bool
is_gguf_name (std::string_view path)
{
  return path.ends_with (kGguf);
}

/// NAME-00002-of-00003.gguf: where its number begins; npos for a file that is whole.
size_t
part_number_at (std::string_view path)
{
  constexpr std::string_view kForm = "-00000-of-00000.gguf";
  if (path.size () < kForm.size ())
    return std::string_view::npos;
  const size_t begin = path.size () - kForm.size ();
  for (size_t i = 0; i < kForm.size (); ++i) {
    const char c = path[begin + i];
    if (kForm[i] == '0' ? c < '0' || c > '9' : c != kForm[i])
      return std::string_view::npos;
  }
  return begin + 1;
}

constexpr size_t kPartDigits = 5;

/// The same for all parts of a file.
std::string
whole_name (std::string_view path)
{
  std::string name (path);
  if (const size_t at = part_number_at (path); at != std::string::npos)
    name.replace (at, kPartDigits, kPartDigits, '0');
  return name;
}

/// "a (1.2 GB), b (3 MB) and 4 more"
std::string
listed (const std::vector<const HubFile *> &files)
{
  std::string text;
  for (size_t i = 0; i < std::min (kNamed, files.size ()); ++i) {
    text += (i > 0 ? ", " : "") + printable (files[i]->path);
    if (files[i]->size)
      text += " (" + size_text (*files[i]->size) + ")";
  }
  if (files.size () > kNamed)
    text += " and " + std::to_string (files.size () - kNamed) + " more";
  return text;
}

template <typename Wanted>
std::vector<const HubFile *>
filtered (const HubListing &listing, const Wanted &wanted)
{
  std::vector<const HubFile *> found;
  for (const HubFile &file : listing.files)
    if (wanted (file.path))
      found.push_back (&file);
  return found;
}

std::vector<const HubFile *>
gguf_files (const HubListing &listing)
{
  return filtered (listing, [] (const std::string &path) { return is_gguf_name (path); });
}

/// All parts of the files that are in parts.
std::vector<HubFile>
with_parts (const HubListing &listing, const std::vector<const HubFile *> &chosen)
{
  std::vector<HubFile> files;
  for (const HubFile &file : listing.files) {
    if (std::ranges::any_of (chosen, [&] (const HubFile *other) {
          return other == &file || (is_gguf_name (file.path) && is_gguf_name (other->path) &&
                                    whole_name (other->path) == whole_name (file.path));
        }))
      files.push_back (file);
  }
  return files;
}

/// Whether they are one file, or the parts of one.
bool
is_one_model (const std::vector<const HubFile *> &files)
{
  return !files.empty () && std::ranges::all_of (files, [&] (const HubFile *file) {
    return whole_name (file->path) == whole_name (files.front ()->path);
  });
}

} // namespace

bool
hub_needs_index (const HubListing &listing)
{
  return !listing.find (kSingleFile) && listing.find (kHubIndexFile);
}

std::vector<HubFile>
needed_hub_files (const HubListing &listing, std::span<const std::string> shards)
{
  std::vector<HubFile> files;
  const auto add = [&] (std::string_view path) {
    const HubFile *file = listing.find (path);
    if (file)
      files.push_back (*file);
    return file != nullptr;
  };
  for (const std::string_view path : kModelFiles)
    add (path);
  if (add (kSingleFile))
    return files;
  if (add (kHubIndexFile)) {
    for (const std::string &shard : shards)
      if (!add (shard))
        throw std::runtime_error (std::string (kHubIndexFile) + " names " + printable (shard) +
                                  ", which the repository does not have");
    return files;
  }
  const auto ggufs = gguf_files (listing);
  if (is_one_model (ggufs))
    return with_parts (listing, ggufs);
  if (!ggufs.empty ())
    throw std::runtime_error ("the repository has several GGUF files; name one after a colon: " +
                              listed (ggufs));
  throw std::runtime_error (
      "the repository has neither model.safetensors, nor an index of such files, nor a GGUF file; it has " +
      listed (filtered (listing, [] (const std::string &) { return true; })));
}

std::vector<HubFile>
wished_hub_files (const HubListing &listing, const std::string &files)
{
  if (const HubFile *file = listing.find (files))
    return with_parts (listing, {file});
  if (const auto found = filtered (
          listing,
          [&] (const std::string &path) { return fnmatch (files.c_str (), path.c_str (), FNM_PERIOD) == 0; });
      !found.empty ())
    return with_parts (listing, found);
  const auto ggufs = gguf_files (listing);
  const std::string word = "*" + files + "*";
  const auto named = filtered (listing, [&] (const std::string &path) {
    return is_gguf_name (path) && fnmatch (word.c_str (), path.c_str (), FNM_CASEFOLD) == 0;
  });
  if (is_one_model (named))
    return with_parts (listing, named);
  if (!named.empty ())
    throw std::runtime_error ("\"" + printable (files) + "\" fits several GGUF files: " + listed (named));
  throw std::runtime_error (
      "no file of the repository is \"" + printable (files) + "\"; it has " +
      listed (ggufs.empty () ? filtered (listing, [] (const std::string &) { return true; }) : ggufs));
}

} // namespace millrace
