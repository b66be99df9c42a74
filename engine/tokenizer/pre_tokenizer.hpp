// Cuts normalized text into the words that the model works on.
//
// A list of stages, each of which cuts every piece of the one before. The byte-level stage is always the
// last: it only says that words are byte strings, the alphabet itself is never written out. Immutable.
// Source: the pre_tokenizers and SplitDelimiterBehavior of the reference `tokenizers` library.
#pragma once

#include "engine/tokenizer/known_pattern.hpp"
#include "engine/tokenizer/regex.hpp"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

class PreTokenizer
{
public:
  struct Stage {
    enum Kind {
      kSplit,
      kDigits,
      kPunctuation, ///< each character that BERT takes for punctuation
      kDigitCuts,   ///< only where a multiple of three decimal digits follows
      kDigitGroups, ///< decimal digits by threes, counted from the right
      kPrefixSpace,
      kWords,           ///< runs of characters of words, and of others; white space is left out
      kBert,            ///< as cut_for_bert () does
      kMetaspace,       ///< spaces become "▁", and one is put before as `prefix` says
      kMetaspaceWords,  ///< a word begins with each "▁" that follows something else
      kMetaspacePieces, ///< a word begins with each "▁"
    };
    enum Prefix { kNever, kFirst, kAlways };
    Kind kind = kSplit;
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;
    bool whole_numbers = false;                ///< of kDigitGroups: but no run before a character of words
    std::shared_ptr<const Regex> pattern = {}; ///< of kSplit
    KnownPattern known = {};                   ///< of kSplit: the same, where there is one
    std::string literal = {};     ///< of kSplit: what the pattern matches, where that is one text
    Prefix prefix = kNever;       ///< of kMetaspace
    std::string replacement = {}; ///< of kMetaspace and kMetaspacePieces
  };
  /// Buffers of one call.
  struct Scratch {
    Regex::Scratch regex;
    std::vector<Piece> matches;
    std::vector<Piece> kept;
    std::vector<std::string_view> next;
    std::vector<std::unique_ptr<std::string>> rewritten; ///< texts of words that are not those of the text
  };

  std::vector<Stage> stages;
  bool byte_level = false; ///< words are byte strings; otherwise strings of characters

  /// The pattern when a text is cut by nothing else: its matches are the words.
  const KnownPattern *only_pattern () const
  {
    return stages.size () == 1 && stages[0].known ? &stages[0].known : nullptr;
  }
  /// Replaces `words` by the words of `text`. They point into `text` or into `scratch` until the next call.
  /// `at_start`: nothing comes before `text` in what is encoded.
  void split (std::string_view text, bool at_start, Scratch &scratch,
              std::vector<std::string_view> &words) const;

private:
  /// Appends the pieces of `word` to scratch.next.
  static void cut (const Stage &stage, std::string_view word, Scratch &scratch);
};

/// A stage that cuts by `pattern`, in Oniguruma's syntax. Throws std::invalid_argument.
PreTokenizer::Stage split_stage (std::string_view pattern, SplitBehavior behavior = SplitBehavior::kIsolated,
                                 bool invert = false);

/// Turns pieces of alternating matches into what is kept, as `behavior` says. Empty ones may remain.
void apply_behavior (SplitBehavior behavior, const std::vector<Piece> &matches, std::vector<Piece> &kept);

} // namespace millrace
