#include "engine/tokenizer/sentencepiece_parts.hpp"

#include "engine/error.hpp"
#include "engine/tokenizer/score_merges.hpp"
#include "engine/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millrace
{

namespace
{

constexpr double kUnknownPenalty = 10;     // below the least score of a piece
constexpr double kUserDefinedPenalty = .1; // below the highest score for each byte
constexpr size_t kMaxBytes = 32u << 20;    // of all pieces: each byte may be the place of a merge
constexpr size_t kMaxShown = 80;

class Builder
{
public:
  explicit Builder (SentencePieceSource source)
      : source_ (std::move (source))
  {
  }

  TokenizerParts build ()
  {
    read_pieces ();
    if (source_.unigram)
      set_unigram ();
    else
      set_bpe ();
    set_normalizer ();
    set_decoder ();
    return std::move (parts_);
  }

private:
  [[noreturn]] void fail (const std::string &problem) const
  {
    throw LoadError (source_.file, source_.field, problem + "; the file is damaged, fetch it again");
  }

  std::string name_of (size_t id) const
  {
    std::string name = "piece " + std::to_string (id) + ", \"";
    for (const char c : source_.pieces[id].content.substr (0, kMaxShown))
      name += static_cast<unsigned char> (c) < 0x20 || c == 0x7f ? '?' : c;
    return name + '"';
  }

  static bool is_special (PieceType type)
  {
    return type == PieceType::kControl || type == PieceType::kUnknown;
  }
  /// Text can become it.
  static bool is_model (PieceType type)
  {
    return type == PieceType::kNormal || type == PieceType::kUndefined || type == PieceType::kUserDefined;
  }

  void read_pieces ()
  {
    const size_t count = source_.pieces.size ();
    if (count == 0 || count > kMaxTokenId)
      fail ("has " + std::to_string (count) + " pieces, expected 1 to " + std::to_string (kMaxTokenId));
    size_t bytes = 0;
    for (const SentencePiece &piece : source_.pieces)
      bytes += piece.content.size ();
    if (bytes > kMaxBytes)
      fail ("has " + std::to_string (bytes) + " bytes of text, expected " + std::to_string (kMaxBytes) +
            " at most");
    Vocabulary &vocabulary = parts_.vocabulary;
    vocabulary.contents.reserve (count, bytes);
    vocabulary.flags.reserve (count);
    vocabulary.index.reserve (count);
    for (size_t id = 0; id < count; id++)
      add_piece (id);
  }

  void add_piece (size_t id)
  {
    const SentencePiece &piece = source_.pieces[id];
    Vocabulary &vocabulary = parts_.vocabulary;
    vocabulary.contents.append (piece.content);
    vocabulary.flags.push_back (0);
    if (piece.content.empty ()) // a hole: nothing can become it
      return;
    if (!valid_utf8 (piece.content))
      fail ("piece " + std::to_string (id) + " is not valid Unicode");
    if (!std::isfinite (piece.score))
      fail (name_of (id) + " has a score that is not a number");
    const int32_t other = vocabulary.index.insert (vocabulary.contents, static_cast<int32_t> (id));
    if (other != kNoToken)
      fail (name_of (id) + " is piece " + std::to_string (other) + " too");
    vocabulary.flags[id] = Vocabulary::kPresent;
    if (is_model (piece.type))
      vocabulary.flags[id] |= Vocabulary::kModel;
    if (piece.type == PieceType::kUnknown && unknown_ == kNoToken)
      unknown_ = static_cast<int32_t> (id);
    if (is_special (piece.type) || (piece.type == PieceType::kUserDefined && !finds_user_defined ()))
      add_added_token (id);
  }

  /// The model itself takes user-defined pieces, so that they need not be cut out.
  bool finds_user_defined () const { return source_.unigram && !source_.user_defined_verbatim; }

  void add_added_token (size_t id)
  {
    const SentencePiece &piece = source_.pieces[id];
    AddedTokenEntry entry;
    entry.token.id = static_cast<int32_t> (id);
    entry.token.content = piece.content;
    entry.token.special = is_special (piece.type);
    entry.normalized = entry.is_normal_form = !entry.token.special && !source_.user_defined_verbatim;
    parts_.added.push_back (std::move (entry));
  }

  ByteFallback byte_fallback () const
  {
    return source_.byte_fallback ? find_byte_tokens (parts_.vocabulary) : ByteFallback ();
  }

  void set_unigram ()
  {
    Unigram &model = parts_.model.emplace<Unigram> ();
    model.pieces.reserve (parts_.vocabulary.contents.bytes ().size ());
    model.scores.assign (source_.pieces.size (), 0);
    model.single_precision = true;
    float least = std::numeric_limits<float>::max (), most = std::numeric_limits<float>::lowest ();
    for (const SentencePiece &piece : source_.pieces)
      if (piece.type == PieceType::kNormal) {
        least = std::min (least, piece.score);
        most = std::max (most, piece.score);
      }
    for (size_t id = 0; id < source_.pieces.size (); id++) {
      const SentencePiece &piece = source_.pieces[id];
      if (!(parts_.vocabulary.flags[id] & Vocabulary::kModel))
        continue;
      model.pieces.insert (piece.content, static_cast<int32_t> (id));
      // User-defined pieces are worth more than any cut of theirs.
      model.scores[id] = piece.type == PieceType::kUserDefined
                             ? static_cast<float> (piece.content.size ()) * most - kUserDefinedPenalty
                             : piece.score;
    }
    model.unknown_score = least - static_cast<float> (kUnknownPenalty);
    model.unknown = unknown_;
    model.fallback = byte_fallback ();
  }

  void set_bpe ()
  {
    Bpe &model = parts_.model.emplace<Bpe> ();
    std::vector<float> scores;
    for (const SentencePiece &piece : source_.pieces)
      scores.push_back (piece.score);
    model.merges = score_merges (parts_.vocabulary, scores);
    model.merges_characters = true;
    model.unknown = unknown_;
    model.fuse_unknown = true;
    model.fallback = byte_fallback ();
  }

  void set_normalizer ()
  {
    for (size_t id = 0; id < source_.pieces.size (); id++)
      if (source_.pieces[id].type == PieceType::kUserDefined && !source_.user_defined_verbatim)
        source_.normalizer.user_defined.insert (source_.pieces[id].content, static_cast<int32_t> (id));
    drops_leading_ = source_.normalizer.add_dummy_prefix && !source_.normalizer.whitespace_as_suffix;
    drops_each_leading_ = source_.normalizer.remove_extra_whitespaces;
    Normalizer::Step step;
    step.kind = Normalizer::Step::kSentencePiece;
    step.sentencepiece = std::make_shared<const SentencePieceNormalizer> (std::move (source_.normalizer));
    parts_.normalizer.steps.push_back (std::move (step));
  }

  void set_decoder ()
  {
    if (drops_leading_ || drops_each_leading_) {
      parts_.decoder.push_back ({.kind = DecoderStep::kDropLeading, .content = std::string (kMetaspace)});
      parts_.texts.first_forms = drops_each_leading_ ? FirstForms::kWhileEmpty : FirstForms::kOnce;
    }
    parts_.decoder.push_back ({.kind = DecoderStep::kByteFallback});
    parts_.decoder.push_back (
        {.kind = DecoderStep::kMetaspace, .content = std::string (kMetaspace), .drop_first = false});
    parts_.texts.each_byte_replaced = true;
    if (unknown_ != kNoToken && !source_.unknown_text.empty ())
      parts_.decoder.push_back ({.kind = DecoderStep::kExactly,
                                 .content = source_.unknown_text,
                                 .whole = std::string (source_.pieces[unknown_].content)});
  }

  SentencePieceSource source_;
  TokenizerParts parts_;
  int32_t unknown_ = kNoToken;
  bool drops_leading_ = false, drops_each_leading_ = false;
};

} // namespace

TokenizerParts
sentencepiece_parts (SentencePieceSource source)
{
  return Builder (std::move (source)).build ();
}

} // namespace millrace
