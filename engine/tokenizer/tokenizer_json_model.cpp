// The sections of tokenizer.json that name tokens: model.vocab, added_tokens and model.merges.

#include "engine/tokenizer/tokenizer.hpp"
#include "engine/tokenizer/tokenizer_json.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

struct Entry {
  std::string_view content;
  uint8_t flags = 0;
};

std::string
quoted (std::string_view content)
{
  std::string text (1, '"');
  text.append (content);
  text += '"';
  return text;
}

/// Puts model.vocab into `entries` by id.
void
read_model_vocabulary (const JsonField &vocab, std::vector<Entry> &entries)
{
  const simdjson::dom::object object = vocab.object ();
  int64_t highest = -1;
  for (const auto [key, value] : object) {
    int64_t id = -1;
    if (value.get (id) || id < 0 || id > kMaxTokenId)
      vocab.fail ("the id of " + quoted (key) + " must be a whole number from 0 to " +
                  std::to_string (kMaxTokenId));
    highest = std::max (highest, id);
  }
  if (highest < 0)
    vocab.fail ("is empty");
  entries.resize (highest + 1);
  for (const auto [key, value] : object) {
    int64_t id = 0;
    if (value.get (id))
      continue; // seen above
    Entry &entry = entries[id];
    if (entry.flags)
      vocab.fail (quoted (entry.content) + " and " + quoted (key) + " have the same id " +
                  std::to_string (id));
    entry = {key, Vocabulary::kPresent | Vocabulary::kModel};
  }
}

void
read_added_tokens (const JsonField &list, std::vector<Entry> &entries, std::vector<AddedTokenEntry> &added)
{
  size_t index = 0;
  for (const auto element : list.array ()) {
    const JsonField field = list.item (index++, element);
    const JsonField id_field = field.at ("id");
    AddedTokenEntry entry;
    entry.token.id = static_cast<int32_t> (id_field.integer (0, kMaxTokenId));
    const std::string_view content = field.at ("content").string ();
    entry.token.content = content;
    entry.token.single_word = field.at ("single_word").boolean ();
    entry.token.lstrip = field.at ("lstrip").boolean ();
    entry.token.rstrip = field.at ("rstrip").boolean ();
    entry.token.special = field.at ("special").boolean ();
    entry.normalized = field.at ("normalized").boolean ();
    if (content.empty ()) // the reference ignores it
      continue;

    if (static_cast<size_t> (entry.token.id) >= entries.size ())
      entries.resize (entry.token.id + 1);
    Entry &slot = entries[entry.token.id];
    if (slot.flags && slot.content != content)
      id_field.fail ("the id " + std::to_string (entry.token.id) + " of " + quoted (content) +
                     " belongs to " + quoted (slot.content));
    slot.content = content;
    slot.flags |= Vocabulary::kPresent;
    added.push_back (std::move (entry));
  }
}

} // namespace

void
read_vocabulary (const JsonField &root, TokenizerParts &parts)
{
  const JsonField vocab = root.at ("model").at ("vocab");
  std::vector<Entry> entries;
  read_model_vocabulary (vocab, entries);
  const auto added = root.find ("added_tokens");
  if (added)
    read_added_tokens (*added, entries, parts.added);

  Vocabulary &vocabulary = parts.vocabulary;
  size_t bytes = 0;
  for (const Entry &entry : entries)
    bytes += entry.content.size ();
  vocabulary.contents.reserve (entries.size (), bytes);
  vocabulary.flags.reserve (entries.size ());
  for (const Entry &entry : entries) {
    vocabulary.contents.append (entry.content);
    vocabulary.flags.push_back (entry.flags);
  }
  // Escapes can spell lone surrogates, which are no text.
  if (!valid_utf8 (vocabulary.contents.bytes ()))
    for (size_t id = 0; id < entries.size (); id++)
      if (!valid_utf8 (entries[id].content))
        vocab.fail ("the token with id " + std::to_string (id) + " is not valid Unicode");
  vocabulary.index.reserve (entries.size ());
  for (size_t id = 0; id < entries.size (); id++) {
    if (!entries[id].flags)
      continue;
    const int32_t other = vocabulary.index.insert (vocabulary.contents, static_cast<int32_t> (id));
    if (other == kNoToken)
      continue;
    const JsonField &field = (entries[id].flags & Vocabulary::kModel) ? vocab : *added;
    field.fail (quoted (entries[id].content) + " has two ids, " + std::to_string (other) + " and " +
                std::to_string (id));
  }
}

void
read_merges (const JsonField &model, const Vocabulary &vocabulary, Bpe &bpe)
{
  const JsonField list = model.at ("merges");
  const simdjson::dom::array array = list.array ();
  // size () saturates at 0xFFFFFF.
  size_t count = 0;
  for ([[maybe_unused]] const auto element : array)
    count++;
  bpe.merges.reserve (count);

  std::string merged;
  uint32_t rank = 0;
  size_t index = 0;
  for (const auto element : array) {
    const auto field = [&] { return list.item (index, element); };
    std::string_view sides[2], line;
    if (element.is_string ()) {
      if (element.get (line))
        field ().fail ("must be a string");
      if (line.starts_with ("#version")) {
        index++;
        continue;
      }
      const size_t space = line.find (' ');
      if (space == std::string_view::npos || line.find (' ', space + 1) != std::string_view::npos)
        field ().fail (quoted (line) + " must be two tokens with one space between them");
      sides[0] = line.substr (0, space);
      sides[1] = line.substr (space + 1);
    } else {
      simdjson::dom::array pair;
      size_t side = 0;
      if (element.get (pair) || pair.size () != 2)
        field ().fail ("must be a string or an array of two strings");
      for (const auto part : pair)
        if (part.get (sides[side++]))
          field ().fail ("must be a string or an array of two strings");
    }
    int32_t ids[3];
    merged.assign (sides[0]).append (sides[1]);
    const std::string_view names[3] = {sides[0], sides[1], merged};
    for (int i = 0; i < 3; i++) {
      ids[i] = vocabulary.model_id (names[i]);
      if (ids[i] == kNoToken)
        field ().fail ("the token " + quoted (names[i]) + " is not in model.vocab");
    }
    bpe.merges.insert (ids[0], ids[1], {rank++, ids[2]});
    index++;
  }
}

} // namespace millrace
