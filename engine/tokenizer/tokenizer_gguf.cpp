// A tokenizer from the lists that a GGUF file has in its metadata.
#include "engine/tokenizer/tokenizer_gguf.hpp"

#include "engine/error.hpp"
#include "engine/tokenizer/gguf_pre_tokenizers.hpp"
#include "engine/tokenizer/sentencepiece_parts.hpp"

#include <stdexcept>
#include <string>

namespace millrace
{

namespace
{

constexpr const char *kModelKey = "tokenizer.ggml.model";
constexpr const char *kScoresKey = "tokenizer.ggml.scores";
constexpr const char *kBosKey = "tokenizer.ggml.bos_token_id";
constexpr const char *kEosKey = "tokenizer.ggml.eos_token_id";
constexpr const char *kPreKey = "tokenizer.ggml.pre";
constexpr const char *kTokensKey = "tokenizer.ggml.tokens";
constexpr const char *kTypesKey = "tokenizer.ggml.token_type";
constexpr const char *kMergesKey = "tokenizer.ggml.merges";
constexpr const char *kDamaged = "; the file is damaged, fetch it again";
constexpr size_t kMaxShown = 80;

std::string
quoted (std::string_view text)
{
  std::string result (1, '"');
  for (const char c : text.substr (0, kMaxShown))
    result += static_cast<unsigned char> (c) < 0x20 || c == 0x7f ? '?' : c;
  return result + '"';
}

class Reader
{
public:
  Reader (const std::filesystem::path &file, const GgufVocabulary &source)
      : file_ (file)
      , source_ (source)
  {
  }

  TokenizerParts read ()
  {
    if (source_.model == "gpt2" || source_.model == "gemma4")
      read_gpt2 ();
    else if (source_.model == "llama" || source_.model == "t5")
      read_sentencepiece ();
    else if (source_.model == "bert")
      read_bert ();
    else
      fail (kModelKey,
            quoted (source_.model) +
                " is not supported; supported are gpt2, gemma4, llama, t5 and bert: use a model with such a "
                "tokenizer, or its folder with a tokenizer.json or tokenizer.model");
    if (source_.strips_after_special)
      for (AddedTokenEntry &entry : parts_.added)
        entry.token.rstrip = strips_after (entry.token);
    return std::move (parts_);
  }

private:
  [[noreturn]] void fail (const char *key, const std::string &problem) const
  {
    throw LoadError (file_, key, problem);
  }

  void read_gpt2 ()
  {
    const std::string_view pre = source_.model == "gpt2" ? source_.pre : source_.model;
    const GgufPreTokenizer *kind = find_gguf_pre_tokenizer (pre);
    if (!kind)
      fail (kPreKey, quoted (pre) + " is not supported; supported are " + gguf_pre_tokenizer_names () +
                         ": use the model's folder with a tokenizer.json");
    parts_.model.emplace<Bpe> ().ignore_merges = kind->ignore_merges;
    set_normalizer (*kind);
    parts_.pre_tokenizer = make_pre_tokenizer (*kind);
    if (kind->of_characters) {
      parts_.decoder.push_back ({.kind = DecoderStep::kByteFallback});
      if (kind->metaspaces)
        parts_.decoder.push_back (
            {.kind = DecoderStep::kMetaspace, .content = std::string (kMetaspace), .drop_first = false});
      parts_.texts.each_byte_replaced = true;
    } else {
      parts_.decoder.push_back ({.kind = DecoderStep::kByteLevel});
    }
    parts_.added_verbatim = true;
    add_ends (parts_.prefix, source_.add_bos.value_or (kind->adds_bos), source_.bos, kBosKey);
    add_ends (parts_.suffix, source_.add_eos.value_or (false), source_.eos, kEosKey);
    read_tokens ();
    Bpe &bpe = std::get<Bpe> (parts_.model);
    read_merges (bpe);
    if (kind->of_characters) {
      bpe.fallback = find_byte_tokens (parts_.vocabulary);
      bpe.fuse_unknown = true;
      bpe.unknown =
          source_.unknown < static_cast<TokenId> (source_.tokens.size ()) ? source_.unknown : kNoToken;
    }
  }

  void set_normalizer (const GgufPreTokenizer &kind)
  {
    if (kind.normalizes)
      parts_.normalizer.steps.push_back (Normalizer::Step ());
    if (!kind.metaspaces)
      return;
    SentencePieceNormalizer spaces;
    spaces.add_dummy_prefix = source_.add_space_prefix.value_or (false);
    spaces.remove_extra_whitespaces = false;
    Normalizer::Step step;
    step.kind = Normalizer::Step::kSentencePiece;
    step.sentencepiece = std::make_shared<const SentencePieceNormalizer> (std::move (spaces));
    parts_.normalizer.steps.push_back (std::move (step));
  }

  void read_sentencepiece ()
  {
    const bool unigram = source_.model == "t5";
    check_counts ();
    if (source_.scores.size () != source_.tokens.size ())
      fail (kScoresKey, "has " + std::to_string (source_.scores.size ()) + " entries for " +
                            std::to_string (source_.tokens.size ()) + " tokens" + kDamaged);
    SentencePieceSource source;
    source.file = file_;
    source.field = kTokensKey;
    source.unigram = unigram;
    source.user_defined_verbatim = true;
    for (size_t id = 0; id < source_.tokens.size (); ++id) {
      source.pieces.push_back ({source_.tokens[id], source_.scores[id], type_of (id)});
      if (type_of (id) == PieceType::kByte)
        source.byte_fallback = true;
    }
    if (source_.unknown >= 0 && static_cast<size_t> (source_.unknown) < source.pieces.size ())
      source.pieces[static_cast<size_t> (source_.unknown)].type = PieceType::kUnknown;
    SentencePieceNormalizer &normalizer = source.normalizer;
    normalizer.add_dummy_prefix = source_.add_space_prefix.value_or (!unigram);
    normalizer.remove_extra_whitespaces = unigram && source_.remove_extra_whitespaces.value_or (false);
    if (unigram)
      try {
        normalizer.map = CharsMap (source_.precompiled_charsmap);
      } catch (const std::invalid_argument &error) {
        fail ("tokenizer.ggml.precompiled_charsmap", error.what () + std::string (kDamaged));
      }
    parts_ = sentencepiece_parts (std::move (source));
    add_ends (parts_.prefix, source_.add_bos.value_or (!unigram), source_.bos, kBosKey);
    add_ends (parts_.suffix, source_.add_eos.value_or (unigram), source_.eos, kEosKey);
  }

  /// The file has "▁" before tokens that begin a word in place of "##" before those that go on.
  void read_bert ()
  {
    check_counts ();
    read_tokens ();
    WordPiece &model = parts_.model.emplace<WordPiece> ();
    const Vocabulary &vocabulary = parts_.vocabulary;
    model.pieces.reserve (vocabulary.contents.bytes ().size () + 1);
    const std::string continuing (1, '\0'); // a character that is in no word
    for (int id = 0; id < vocabulary.size (); ++id) {
      const std::string_view content = vocabulary.contents[id];
      if (!(vocabulary.flags[id] & Vocabulary::kModel))
        continue;
      if (content.starts_with (kMetaspace))
        model.pieces.insert (content.substr (kMetaspace.size ()), id);
      else
        model.pieces.insert (continuing + std::string (content), id);
    }
    model.set_prefix (continuing);
    model.unknown = source_.unknown >= 0 ? source_.unknown : token_named ("[UNK]");
    if (model.unknown >= vocabulary.size ())
      fail ("tokenizer.ggml.unknown_token_id",
            "is " + std::to_string (model.unknown) + ", not a token" + kDamaged);

    Normalizer::Step step;
    step.kind = Normalizer::Step::kBert;
    step.bert.lowercase = source_.lowercase.value_or (true);
    step.bert.strip_accents = source_.strip_accents.value_or (step.bert.lowercase);
    parts_.normalizer.steps.push_back (std::move (step));
    parts_.pre_tokenizer.stages.push_back ({.kind = PreTokenizer::Stage::kBert});
    parts_.added_verbatim = true;
    parts_.decoder.push_back ({.kind = DecoderStep::kMetaspace, .content = std::string (kMetaspace)});
    parts_.decoder.push_back ({.kind = DecoderStep::kCleanup});
    parts_.texts.first_forms = FirstForms::kFirstToken;
    add_ends (parts_.prefix, source_.add_bos.value_or (true), first_of (source_.bos, token_named ("[CLS]")),
              kBosKey);
    add_ends (parts_.suffix, source_.add_eos.value_or (true),
              first_of (source_.separator, token_named ("[SEP]")), "tokenizer.ggml.seperator_token_id");
  }

  static TokenId first_of (TokenId given, TokenId otherwise) { return given >= 0 ? given : otherwise; }

  TokenId token_named (std::string_view content) const
  {
    return parts_.vocabulary.index.find (parts_.vocabulary.contents, content);
  }

  /// In Phi-3's tokenizer all special tokens do, but for the three of Llama's vocabulary that it does not use.
  static bool strips_after (const AddedToken &token)
  {
    return token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
  }

  void add_ends (std::vector<int32_t> &ids, bool wanted, TokenId id, const char *key)
  {
    if (!wanted || id == kNoToken)
      return;
    if (id < 0 || static_cast<size_t> (id) >= source_.tokens.size ())
      fail (key, "is " + std::to_string (id) + ", not one of the " + std::to_string (source_.tokens.size ()) +
                     " tokens; correct the file");
    ids.push_back (id);
  }

  PieceType type_of (size_t id) const
  {
    const int32_t type = source_.types.empty () ? 1 : source_.types[id];
    return type >= 0 && type <= static_cast<int32_t> (PieceType::kByte) ? static_cast<PieceType> (type)
                                                                        : PieceType::kUndefined;
  }

  void check_counts () const
  {
    const size_t count = source_.tokens.size ();
    if (count == 0 || count > kMaxTokenId)
      fail (kTokensKey, "has " + std::to_string (count) + " tokens, expected 1 to " +
                            std::to_string (kMaxTokenId) + kDamaged);
    if (!source_.types.empty () && source_.types.size () != count)
      fail (kTypesKey, "has " + std::to_string (source_.types.size ()) + " entries for " +
                           std::to_string (count) + " tokens" + kDamaged);
  }

  void read_tokens ()
  {
    check_counts ();
    const size_t count = source_.tokens.size ();
    size_t bytes = 0;
    for (const std::string_view token : source_.tokens)
      bytes += token.size ();
    Vocabulary &vocabulary = parts_.vocabulary;
    vocabulary.contents.reserve (count, bytes);
    vocabulary.index.reserve (count);
    vocabulary.flags.reserve (count);
    for (size_t id = 0; id < count; ++id)
      add_token (id);
  }

  void add_token (size_t id)
  {
    const std::string_view content = source_.tokens[id];
    Vocabulary &vocabulary = parts_.vocabulary;
    vocabulary.contents.append (content);
    vocabulary.flags.push_back (0);
    if (content.empty ()) // a hole: nothing can become it
      return;
    if (!valid_utf8 (content))
      fail (kTokensKey, "token " + std::to_string (id) + " is not valid Unicode" + kDamaged);
    const int32_t other = vocabulary.index.insert (vocabulary.contents, static_cast<int32_t> (id));
    if (other != kNoToken)
      fail (kTokensKey, quoted (content) + " is token " + std::to_string (other) + " and token " +
                            std::to_string (id) + kDamaged);
    const PieceType type = type_of (id);
    const bool special = type == PieceType::kControl || type == PieceType::kUnknown;
    vocabulary.flags[id] = Vocabulary::kPresent;
    if (!special) // ordinary text never becomes a special token, not even as a whole word
      vocabulary.flags[id] |= Vocabulary::kModel;
    if (special || type == PieceType::kUserDefined) {
      AddedTokenEntry entry;
      entry.token.id = static_cast<int32_t> (id);
      entry.token.content = content;
      entry.token.special = special;
      parts_.added.push_back (std::move (entry));
    }
  }

  int32_t token_of (std::string_view content, size_t merge) const
  {
    const int32_t id = parts_.vocabulary.index.find (parts_.vocabulary.contents, content);
    if (id == kNoToken)
      fail (kMergesKey, "entry " + std::to_string (merge) + " needs the token " + quoted (content) +
                            ", which is not in " + kTokensKey + kDamaged);
    return id;
  }

  void read_merges (Bpe &bpe)
  {
    bpe.merges.reserve (source_.merges.size ());
    std::string merged;
    for (size_t i = 0; i < source_.merges.size (); ++i) {
      const std::string_view line = source_.merges[i];
      const size_t space = line.find (' ', 1);
      if (space == std::string_view::npos || space + 1 == line.size ())
        fail (kMergesKey, "entry " + std::to_string (i) + " is " + quoted (line) +
                              ", expected two tokens with a space between them" + kDamaged);
      const std::string_view left = line.substr (0, space), right = line.substr (space + 1);
      merged.assign (left).append (right);
      const int32_t ids[] = {token_of (left, i), token_of (right, i), token_of (merged, i)};
      bpe.merges.insert (ids[0], ids[1], {static_cast<uint32_t> (i), ids[2]});
    }
  }

  const std::filesystem::path &file_;
  const GgufVocabulary &source_;
  TokenizerParts parts_;
};

} // namespace

std::shared_ptr<const Tokenizer>
load_gguf_tokenizer (const std::filesystem::path &file, const GgufVocabulary &source)
{
  return Tokenizer::assemble (file, Reader (file, source).read ());
}

} // namespace millrace
