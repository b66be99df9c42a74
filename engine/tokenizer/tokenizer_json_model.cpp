// The sections of tokenizer.json that name tokens: the model with its vocabulary and merges, and added_tokens.

#include "engine/tokenizer/tokenizer.hpp"
#include "engine/tokenizer/tokenizer_json.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

constexpr double kUnknownPenalty = 10; // below the least score of a piece
constexpr int64_t kMaxWordCharacters = int64_t{1} << 40;

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

/// Puts Unigram's list of [content, score] into `entries`.
void
read_scored_vocabulary (const JsonField &vocab, std::vector<Entry> &entries, std::vector<double> &scores)
{
  size_t index = 0;
  for (const auto element : vocab.array ()) {
    const auto field = [&] { return vocab.item (index, element); };
    simdjson::dom::array pair;
    std::string_view content;
    double score = 0;
    if (element.get (pair) || pair.size () != 2 || pair.at (0).get (content) || pair.at (1).get (score))
      field ().fail ("must be an array of a token and its score");
    if (!std::isfinite (score))
      field ().fail ("has a score that is not a number");
    if (index > static_cast<size_t> (kMaxTokenId))
      vocab.fail ("has more than " + std::to_string (kMaxTokenId) + " tokens");
    entries.push_back ({content, Vocabulary::kPresent | Vocabulary::kModel});
    scores.push_back (score);
    index++;
  }
  if (entries.empty ())
    vocab.fail ("is empty");
}

/// The vocabulary of `model` and the added tokens of `root`; of a Unigram model also `scores`.
void
read_vocabulary (const JsonField &root, TokenizerParts &parts, std::vector<double> *scores)
{
  const JsonField vocab = root.at ("model").at ("vocab");
  std::vector<Entry> entries;
  if (scores)
    read_scored_vocabulary (vocab, entries, *scores);
  else
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

  const size_t dropped = bpe.continuing_prefix.size (); // of the right side, where the two become one
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
    if (sides[1].size () < dropped || (sides[1].size () > dropped && (sides[1][dropped] & 0xC0) == 0x80))
      field ().fail ("the token " + quoted (sides[1]) + " does not begin with continuing_subword_prefix");
    merged.assign (sides[0]).append (sides[1].substr (dropped));
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

int32_t
read_unknown (const JsonField &field, const Vocabulary &vocabulary)
{
  const int32_t id = vocabulary.model_id (field.string ());
  if (id == kNoToken)
    field.fail (std::string (field.string ()) + " is not in model.vocab");
  return id;
}

void
read_bpe (const JsonField &root, const JsonField &model, TokenizerParts &parts)
{
  if (const auto dropout = model.find ("dropout"))
    dropout->fail ("dropout is for training; it must be null");
  Bpe &bpe = parts.model.emplace<Bpe> ();
  if (const auto affix = model.find ("continuing_subword_prefix"))
    bpe.continuing_prefix = read_inserted (*affix);
  if (const auto affix = model.find ("end_of_word_suffix"))
    bpe.end_suffix = read_inserted (*affix);
  bpe.fuse_unknown = model.boolean_or ("fuse_unk", false);
  bpe.ignore_merges = model.boolean_or ("ignore_merges", false);
  const bool byte_fallback = model.boolean_or ("byte_fallback", false);

  read_vocabulary (root, parts, nullptr);
  if (const auto unknown = model.find ("unk_token"))
    bpe.unknown = read_unknown (*unknown, parts.vocabulary);
  if (byte_fallback)
    bpe.fallback = find_byte_tokens (parts.vocabulary);
  read_merges (model, parts.vocabulary, bpe);
}

void
read_unigram (const JsonField &root, const JsonField &model, TokenizerParts &parts)
{
  Unigram &unigram = parts.model.emplace<Unigram> ();
  const bool byte_fallback = model.boolean_or ("byte_fallback", false);
  read_vocabulary (root, parts, &unigram.scores);
  if (const auto unknown = model.find ("unk_id"))
    unigram.unknown =
        static_cast<int32_t> (unknown->integer (0, static_cast<int64_t> (unigram.scores.size ()) - 1));
  if (byte_fallback)
    unigram.fallback = find_byte_tokens (parts.vocabulary);
  double least = unigram.scores[0];
  for (size_t id = 0; id < unigram.scores.size (); id++) {
    least = std::min (least, unigram.scores[id]);
    if (!parts.vocabulary.contents[id].empty ())
      unigram.pieces.insert (parts.vocabulary.contents[id], static_cast<int32_t> (id));
  }
  unigram.unknown_score = least - kUnknownPenalty;
}

void
read_word_piece (const JsonField &root, const JsonField &model, bool whole_words, TokenizerParts &parts)
{
  WordPiece &word_piece = parts.model.emplace<WordPiece> ();
  word_piece.whole_words = whole_words;
  if (!whole_words)
    word_piece.most_characters =
        static_cast<size_t> (model.at ("max_input_chars_per_word").integer (0, kMaxWordCharacters));
  read_vocabulary (root, parts, nullptr);
  const Vocabulary &vocabulary = parts.vocabulary;
  word_piece.unknown = read_unknown (model.at ("unk_token"), vocabulary);
  word_piece.pieces.reserve (vocabulary.contents.bytes ().size ());
  for (int id = 0; id < vocabulary.size (); id++)
    if ((vocabulary.flags[id] & Vocabulary::kModel) && !vocabulary.contents[id].empty ())
      word_piece.pieces.insert (vocabulary.contents[id], id);
  if (!whole_words)
    word_piece.set_prefix (model.at ("continuing_subword_prefix").string ());
}

} // namespace

void
read_model (const JsonField &root, TokenizerParts &parts)
{
  const JsonField model = root.at ("model");
  const auto type = model.find ("type"); // files of long ago have none, and are BPE
  const std::string_view name = type ? type->string () : "BPE";
  if (name == "BPE")
    read_bpe (root, model, parts);
  else if (name == "Unigram")
    read_unigram (root, model, parts);
  else if (name == "WordPiece" || name == "WordLevel")
    read_word_piece (root, model, name == "WordLevel", parts);
  else
    unsupported (*type);
}

} // namespace millrace
