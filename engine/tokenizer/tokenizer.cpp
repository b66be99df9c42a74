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
  StringTable bytes;            ///< by id
  std::vector<uint8_t> special; ///< by id
  std::string digest;

  State (const std::filesystem::path &file, TokenizerParts from);

private:
  void set_added_tokens (const std::filesystem::path &file, std::unordered_map<int32_t, std::string> &forms);
  void set_bytes (const std::unordered_map<int32_t, std::string> &forms);
  void set_bpe ();
  void set_digest ();
};

namespace
{

constexpr size_t kLongestWord = size_t{1} << 30; // symbols of a word are counted in 31 bits

/// Appends the bytes that `text` spells in the byte alphabet; false when a character is not of it.
bool
append_alphabet_bytes (std::string_view text, std::string &out)
{
  for (size_t at = 0; at < text.size ();) {
    const utf8::Decoded c = utf8::decode (text, at);
    if (c.code_point >= kByteAlphabet.byte.size () || kByteAlphabet.byte[c.code_point] < 0)
      return false;
    out += static_cast<char> (kByteAlphabet.byte[c.code_point]);
    at += c.size;
  }
  return true;
}

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
  set_bytes (forms);
  set_bpe ();
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
    if (entry.normalized)
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
Tokenizer::State::set_bytes (const std::unordered_map<int32_t, std::string> &forms)
{
  const int count = parts.vocabulary.size ();
  bytes.reserve (count, 0);
  std::string token;
  for (int id = 0; id < count; id++) {
    std::string_view form = parts.vocabulary.contents[id];
    bool verbatim = false;
    if (!forms.empty ())
      if (const auto added = forms.find (id); added != forms.end ()) {
        form = added->second;
        verbatim = parts.added_verbatim;
      }
    token.clear ();
    // A token with a character outside the alphabet is its own text.
    if (parts.decoder == DecoderKind::kByteLevel && !verbatim && append_alphabet_bytes (form, token))
      bytes.append (token);
    else
      bytes.append (form);
  }
}

void
Tokenizer::State::set_bpe ()
{
  Bpe &bpe = parts.bpe;
  const Vocabulary &vocabulary = parts.vocabulary;
  bpe.vocabulary = &vocabulary;
  bpe.byte_level = parts.pre_tokenizer.byte_level;
  if (!bpe.byte_level)
    return;
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
    sum.add (static_cast<uint32_t> (bytes[id].size ()));
    sum.add (bytes[id]);
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
    parts_.pre_tokenizer.split (text, words_scratch_, words_);
    for (std::string_view word : words_) {
      for (; word.size () > kLongestWord; word.remove_prefix (kLongestWord))
        parts_.bpe.encode (word.substr (0, kLongestWord), bpe_, ids_);
      parts_.bpe.encode (word, bpe_, ids_);
    }
    if (!words_scratch_.prefixed.empty ())
      bpe_.forget ();
  }

  const TokenizerParts &parts_;
  std::vector<TokenId> &ids_;
  PreTokenizer::Scratch words_scratch_;
  Bpe::Scratch bpe_;
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
  utf8::LossyDecoder decoder;
  bool started = false;
  for (const TokenId id : ids) {
    if (!is_known (id) || (skip_special && is_special (id)))
      continue;
    if (started)
      decoder.push (separator (), text);
    started = true;
    decoder.push (token_bytes (id), text);
  }
  decoder.finish (text);
  return text;
}

std::string_view
Tokenizer::token_bytes (TokenId id) const
{
  return id >= 0 && id < vocab_size () ? state_->bytes[id] : std::string_view ();
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

std::string_view
Tokenizer::separator () const
{
  return state_->parts.decoder == DecoderKind::kSpaced ? " " : "";
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
