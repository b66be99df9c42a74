#include "engine/tokenizer/tokenizer.hpp"

#include "engine/tokenizer/byte_alphabet.hpp"
#include "engine/tokenizer/tokenizer_json.hpp"
#include "engine/tokenizer/utf8.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace millrace
{

struct Tokenizer::State {
  TokenizerParts parts;
  AddedTokenMatcher verbatim;   ///< added tokens found in the text as it is
  AddedTokenMatcher normalized; ///< added tokens found in the normalized text
  std::vector<uint8_t> special; ///< by id
  std::string digest;

  State (const std::filesystem::path &file, TokenizerParts from);

private:
  void set_added_tokens (const std::filesystem::path &file, std::unordered_map<int32_t, std::string> &forms);
  void set_texts (const std::unordered_map<int32_t, std::string> &forms);
  void set_bpe (Bpe &bpe);
  void set_digest ();
};

namespace
{

constexpr size_t kLongestWord = size_t{1} << 30; // symbols of a word are counted in 31 bits

/// FNV-1a with 64 bits.
class Digest
{
public:
  void add (std::string_view bytes)
  {
    for (const char byte : bytes)
      hash_ = (hash_ ^ static_cast<unsigned char> (byte)) * 0x100000001B3;
  }
  void add (uint32_t number)
  {
    for (int shift = 0; shift < 32; shift += 8)
      hash_ = (hash_ ^ (number >> shift & 0xFF)) * 0x100000001B3;
  }
  std::string hexadecimal () const
  {
    std::string out;
    for (int shift = 60; shift >= 0; shift -= 4)
      out += "0123456789abcdef"[hash_ >> shift & 0xF];
    return out;
  }

private:
  uint64_t hash_ = 0xCBF29CE484222325;
};

} // namespace

Tokenizer::State::State (const std::filesystem::path &file, TokenizerParts from)
    : parts (std::move (from))
{
  std::unordered_map<int32_t, std::string> forms;
  set_added_tokens (file, forms);
  set_texts (forms);
  if (Bpe *bpe = std::get_if<Bpe> (&parts.model))
    set_bpe (*bpe);
  set_digest ();
}

/// Builds the matchers; `forms` gets what an added token is decoded from: its normalized content.
void
Tokenizer::State::set_added_tokens (const std::filesystem::path &file,
                                    std::unordered_map<int32_t, std::string> &forms)
{
  std::unordered_set<std::string> special_contents;
  std::unordered_map<int32_t, const AddedTokenEntry *> latest; // an entry given twice: the last one counts
  for (const AddedTokenEntry &entry : parts.added) {
    latest[entry.token.id] = &entry;
    if (entry.token.special)
      special_contents.insert (entry.token.content);
  }

  std::vector<AddedToken> found_verbatim, found_normalized;
  std::unordered_set<std::string> taken;
  Regex::Scratch scratch;
  std::string buffer;
  special.assign (parts.vocabulary.size (), 0);
  for (size_t i = 0; i < parts.added.size (); i++) {
    const AddedTokenEntry &entry = parts.added[i];
    if (latest[entry.token.id] != &entry)
      continue;
    AddedToken token = entry.token;
    token.special = special_contents.contains (token.content);
    if (entry.normalized && !entry.is_normal_form)
      token.content = parts.normalizer.apply (entry.token.content, scratch, buffer);
    forms[token.id] = token.content;
    // The reference asks whether the form is the content of a special token.
    special[token.id] = special_contents.contains (token.content);
    if (!entry.normalized) {
      found_verbatim.push_back (std::move (token));
      continue;
    }
    if (token.content.empty () || !taken.insert (token.content).second)
      throw LoadError (file, "added_tokens[" + std::to_string (i) + "].content",
                       token.content.empty () ? "nothing is left of it after normalization"
                                              : "another added token is the same after normalization");
    found_normalized.push_back (std::move (token));
  }
  verbatim = AddedTokenMatcher (std::move (found_verbatim));
  normalized = AddedTokenMatcher (std::move (found_normalized));
}

void
Tokenizer::State::set_texts (const std::unordered_map<int32_t, std::string> &forms)
{
  const int count = parts.vocabulary.size ();
  TokenTexts &texts = parts.texts;
  texts.bytes.reserve (count, 0);
  Regex::Scratch scratch;
  std::string text;
  for (int id = 0; id < count; id++) {
    std::string_view content = parts.vocabulary.contents[id];
    bool verbatim = false;
    if (!forms.empty ())
      if (const auto added = forms.find (id); added != forms.end ()) {
        content = added->second;
        verbatim = parts.added_verbatim;
      }
    const auto add = [&] (TokenPlace place, StringTable &table) {
      text.clear ();
      if (verbatim)
        text = content;
      else
        decode_token (parts.decoder, content, place, scratch, text);
      table.append (text);
    };
    add (TokenPlace::kWithin, texts.bytes);
    if (texts.first_forms != FirstForms::kNone)
      add (TokenPlace::kFirst, texts.first);
    if (texts.last_forms)
      add (TokenPlace::kLast, texts.last);
  }
}

/// Whether no token of `vocabulary` has "▁" after another character, so that no merge reaches over such a place.
bool
words_begin_with_metaspace (const Vocabulary &vocabulary)
{
  if (vocabulary.model_id (kMetaspace) == kNoToken)
    return false;
  for (int id = 0; id < vocabulary.size (); id++) {
    if (!(vocabulary.flags[id] & Vocabulary::kModel))
      continue;
    std::string_view content = vocabulary.contents[id];
    while (content.starts_with (kMetaspace))
      content.remove_prefix (kMetaspace.size ());
    if (content.find (kMetaspace) != std::string_view::npos)
      return false;
  }
  return true;
}

void
Tokenizer::State::set_bpe (Bpe &bpe)
{
  const Vocabulary &vocabulary = parts.vocabulary;
  bpe.vocabulary = &vocabulary;
  bpe.byte_level = parts.pre_tokenizer.byte_level;
  if (!bpe.byte_level) {
    // Gemma's files cut at spaces, of which their normalizer has left none.
    if (parts.normalizer.leaves_no_spaces ())
      std::erase_if (parts.pre_tokenizer.stages, [] (const PreTokenizer::Stage &stage) {
        return stage.kind == PreTokenizer::Stage::kSplit && stage.literal == " " && !stage.invert;
      });
    // Where the file does not cut the text at all, what merges cannot join is cut, which changes no token.
    if (parts.pre_tokenizer.stages.empty () && !bpe.ignore_merges && !bpe.has_affixes () &&
        words_begin_with_metaspace (vocabulary))
      parts.pre_tokenizer.stages.push_back ({.kind = PreTokenizer::Stage::kMetaspaceWords});
    return;
  }
  for (int byte = 0; byte < 256; byte++) {
    std::string character;
    utf8::append (kByteAlphabet.character[byte], character);
    bpe.byte_ids[byte] = vocabulary.model_id (character);
  }
  if (!bpe.ignore_merges)
    return;
  std::string word;
  for (int id = 0; id < vocabulary.size (); id++) {
    word.clear ();
    if ((vocabulary.flags[id] & Vocabulary::kModel) &&
        append_alphabet_bytes (vocabulary.contents[id], word)) {
      bpe.word_bytes.append (word);
      bpe.word_ids.push_back (id);
    }
  }
  bpe.words.reserve (bpe.word_ids.size ());
  for (size_t i = 0; i < bpe.word_ids.size (); i++)
    bpe.words.insert (bpe.word_bytes, static_cast<int32_t> (i));
}

void
Tokenizer::State::set_digest ()
{
  Digest sum;
  for (int id = 0; id < parts.vocabulary.size (); id++) {
    if (!(parts.vocabulary.flags[id] & Vocabulary::kPresent))
      continue;
    sum.add (static_cast<uint32_t> (id));
    sum.add (static_cast<uint32_t> (parts.texts.bytes[id].size ()));
    sum.add (parts.texts.bytes[id]);
    sum.add (special[id] ? "\x01" : std::string_view ("\0", 1));
  }
  digest = sum.hexadecimal ();
}

Tokenizer::Tokenizer () = default;
Tokenizer::~Tokenizer () = default;

std::shared_ptr<const Tokenizer>
Tokenizer::load (const std::filesystem::path &tokenizer_json)
{
  return assemble (tokenizer_json, read_tokenizer_json (tokenizer_json));
}

std::shared_ptr<const Tokenizer>
Tokenizer::assemble (const std::filesystem::path &file, TokenizerParts parts)
{
  const std::shared_ptr<Tokenizer> tokenizer (new Tokenizer);
  tokenizer->state_ = std::make_unique<State> (file, std::move (parts));
  return tokenizer;
}

namespace
{

/// One call of encode (): the parts of the text, each normalized, cut and merged.
class Encoding
{
public:
  Encoding (const TokenizerParts &parts, std::vector<TokenId> &ids)
      : parts_ (parts)
      , ids_ (ids)
  {
  }

  void run (std::string_view text, const AddedTokenMatcher &verbatim, const AddedTokenMatcher &normalized,
            bool parse_special)
  {
    bpe_.prepare (text.size ());
    std::vector<AddedTokenMatcher::Part> outer, inner;
    verbatim.split (text, parse_special, outer);
    for (const auto &part : outer) {
      if (part.id >= 0) {
        ids_.push_back (part.id);
        continue;
      }
      const std::string_view original = text.substr (part.begin, part.end - part.begin);
      const std::string_view form = parts_.normalizer.apply (original, words_scratch_.regex, buffer_);
      at_start_ = part.begin == 0;
      if (normalized.empty ()) {
        add_text (form);
      } else {
        inner.clear ();
        normalized.split (form, parse_special, inner);
        for (const auto &piece : inner) {
          if (piece.id >= 0)
            ids_.push_back (piece.id);
          else
            add_text (form.substr (piece.begin, piece.end - piece.begin));
          at_start_ = false;
        }
      }
      // Remembered words point into the buffer, which the next part overwrites.
      if (form.data () != original.data ())
        bpe_.forget ();
    }
  }

private:
  void add_text (std::string_view text)
  {
    if (text.empty ())
      return;
    if (const KnownPattern *pattern = parts_.pre_tokenizer.only_pattern ()) {
      add_matches (*pattern, text);
      return;
    }
    parts_.pre_tokenizer.split (text, at_start_, words_scratch_, words_);
    for (const std::string_view word : words_)
      add_long_word (word);
    if (!words_scratch_.rewritten.empty ())
      bpe_.forget ();
  }

  /// Words as they are found, without a list of them.
  void add_matches (const KnownPattern &pattern, std::string_view text)
  {
    for (size_t at = 0; at < text.size ();) {
      const size_t end = pattern.end_of_match (text, at);
      add_long_word (text.substr (at, end - at));
      at = end;
    }
  }

  void add_long_word (std::string_view word)
  {
    const Bpe *bpe = std::get_if<Bpe> (&parts_.model);
    while (word.size () > kLongestWord && !(bpe && bpe->has_affixes ())) {
      const size_t size = leading_size (word);
      add_word (word.substr (0, size));
      word.remove_prefix (size);
    }
    add_word (word);
  }

  /// How much of a word can be worked on at once: whole characters.
  static size_t leading_size (std::string_view word)
  {
    size_t size = std::min (word.size (), kLongestWord);
    while (size < word.size () && (static_cast<unsigned char> (word[size]) & 0xC0) == 0x80)
      size--;
    return size;
  }

  void add_word (std::string_view word)
  {
    if (const Bpe *bpe = std::get_if<Bpe> (&parts_.model))
      bpe->encode (word, bpe_, ids_);
    else if (const Unigram *unigram = std::get_if<Unigram> (&parts_.model))
      unigram->encode (word, unigram_, ids_);
    else
      std::get<WordPiece> (parts_.model).encode (word, ids_);
  }

  const TokenizerParts &parts_;
  std::vector<TokenId> &ids_;
  PreTokenizer::Scratch words_scratch_;
  Bpe::Scratch bpe_;
  Unigram::Scratch unigram_;
  bool at_start_ = false; ///< the text comes first in what is encoded
  std::vector<std::string_view> words_;
  std::string buffer_;
};

} // namespace

std::vector<TokenId>
Tokenizer::encode (std::string_view text, const EncodeOptions &options) const
{
  const TokenizerParts &parts = state_->parts;
  std::vector<TokenId> ids;
  if (options.add_special_tokens)
    ids = parts.prefix;
  // What follows relies on well-formed text; a caller that did not check gets U+FFFD instead of a surprise.
  std::string repaired;
  if (!valid_utf8 (text)) {
    repaired = utf8::to_valid (text);
    text = repaired;
  }
  if (!text.empty ()) {
    ids.reserve (ids.size () + text.size () / 4 + 8);
    Encoding (parts, ids).run (text, state_->verbatim, state_->normalized, options.parse_special);
  }
  if (options.add_special_tokens)
    ids.insert (ids.end (), parts.suffix.begin (), parts.suffix.end ());
  return ids;
}

std::string
Tokenizer::decode (std::span<const TokenId> ids, bool skip_special) const
{
  std::string text;
  text.reserve (ids.size () * 4);
  TokenTextStream stream;
  for (const TokenId id : ids)
    if (is_known (id) && !(skip_special && is_special (id)))
      stream.push (texts (), id, text);
  stream.finish (text);
  return text;
}

std::string_view
Tokenizer::token_bytes (TokenId id) const
{
  return id >= 0 && id < vocab_size () ? texts ().bytes[id] : std::string_view ();
}

bool
Tokenizer::is_known (TokenId id) const
{
  return id >= 0 && id < vocab_size () && (state_->parts.vocabulary.flags[id] & Vocabulary::kPresent);
}

bool
Tokenizer::is_special (TokenId id) const
{
  return id >= 0 && id < vocab_size () && state_->special[id];
}

const TokenTexts &
Tokenizer::texts () const
{
  return state_->parts.texts;
}

std::optional<TokenId>
Tokenizer::token_id (std::string_view content) const
{
  const int32_t id = state_->parts.vocabulary.index.find (state_->parts.vocabulary.contents, content);
  return id == kNoToken ? std::nullopt : std::optional<TokenId> (id);
}

int
Tokenizer::vocab_size () const
{
  return state_->parts.vocabulary.size ();
}

const std::string &
Tokenizer::digest () const
{
  return state_->digest;
}

} // namespace millrace
