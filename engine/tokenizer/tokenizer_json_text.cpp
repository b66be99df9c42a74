// The sections of tokenizer.json that work on text: normalizer and pre_tokenizer.

#include "engine/tokenizer/base64.hpp"
#include "engine/tokenizer/tokenizer_json.hpp"

#include <array>
#include <stdexcept>

namespace millrace
{

namespace
{

constexpr size_t kMostInserted = 256;

} // namespace

std::shared_ptr<const Regex>
read_pattern (const JsonField &pattern)
{
  if (const auto literal = pattern.find ("String")) {
    try {
      return std::make_shared<const Regex> (Regex::literal (literal->string ()));
    } catch (const std::invalid_argument &error) {
      literal->fail (error.what ());
    }
  }
  const JsonField regex = pattern.at ("Regex");
  try {
    return std::make_shared<const Regex> (Regex::compile (regex.string ()));
  } catch (const std::invalid_argument &error) {
    regex.fail (error.what ());
  }
}

namespace
{

std::shared_ptr<const CharsMap>
read_chars_map (const JsonField &field)
{
  const auto bytes = decode_base64 (field.string ());
  if (!bytes)
    field.fail ("is not Base64");
  try {
    return std::make_shared<const CharsMap> (*bytes);
  } catch (const std::invalid_argument &error) {
    field.fail (error.what ());
  }
}

} // namespace

void
read_normalizer (const JsonField &field, Normalizer &normalizer, int depth)
{
  using Step = Normalizer::Step;
  const JsonField type = field.at ("type");
  const std::string_view name = type.string ();
  Step step;
  if (name == "Sequence") {
    if (depth == kMaxNesting)
      field.fail ("sequences are nested too deeply");
    const JsonField list = field.at ("normalizers");
    size_t index = 0;
    for (const auto element : list.array ())
      read_normalizer (list.item (index++, element), normalizer, depth + 1);
    return;
  }
  if (name == "NFC") {
    step.kind = Step::kNfc;
  } else if (name == "NFD") {
    step.kind = Step::kNfd;
  } else if (name == "NFKC") {
    step.kind = Step::kNfkc;
  } else if (name == "NFKD") {
    step.kind = Step::kNfkd;
  } else if (name == "Lowercase") {
    step.kind = Step::kLowercase;
  } else if (name == "Replace") {
    step.kind = Step::kReplace;
    step.pattern = read_pattern (field.at ("pattern"));
    if (const auto literal = field.at ("pattern").find ("String"))
      step.literal = literal->string ();
    step.content = read_inserted (field.at ("content"));
  } else if (name == "Prepend") {
    step.kind = Step::kPrepend;
    step.content = read_inserted (field.at ("prepend"));
  } else if (name == "BertNormalizer") {
    step.kind = Step::kBert;
    step.bert.clean_text = field.at ("clean_text").boolean ();
    step.bert.handle_chinese_chars = field.at ("handle_chinese_chars").boolean ();
    step.bert.lowercase = field.at ("lowercase").boolean ();
    step.bert.strip_accents = field.boolean_or ("strip_accents", step.bert.lowercase);
  } else if (name == "StripAccents") {
    step.kind = Step::kStripAccents;
  } else if (name == "Nmt") {
    step.kind = Step::kNmt;
  } else if (name == "Precompiled") {
    step.kind = Step::kPrecompiled;
    step.map = read_chars_map (field.at ("precompiled_charsmap"));
  } else if (name == "Strip") {
    step.kind = Step::kStrip;
    step.left = field.at ("strip_left").boolean ();
    step.right = field.at ("strip_right").boolean ();
  } else {
    unsupported (type);
  }
  normalizer.steps.push_back (std::move (step));
}

namespace
{

SplitBehavior
read_behavior (const JsonField &field)
{
  struct Named {
    std::string_view name;
    SplitBehavior behavior;
  };
  constexpr std::array<Named, 5> kNames = {{{"Removed", SplitBehavior::kRemoved},
                                            {"Isolated", SplitBehavior::kIsolated},
                                            {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
                                            {"MergedWithNext", SplitBehavior::kMergedWithNext},
                                            {"Contiguous", SplitBehavior::kContiguous}}};
  for (const Named &named : kNames)
    if (field.string () == named.name)
      return named.behavior;
  field.fail (std::string (field.string ()) + " is not a split behavior");
}

PreTokenizer::Stage
read_split (const JsonField &field)
{
  const SplitBehavior behavior = read_behavior (field.at ("behavior"));
  const bool invert = field.at ("invert").boolean ();
  const JsonField pattern = field.at ("pattern");
  const auto literal = pattern.find ("String");
  if (literal)
    return {.kind = PreTokenizer::Stage::kSplit,
            .behavior = behavior,
            .invert = invert,
            .pattern = read_pattern (pattern),
            .literal = std::string (literal->string ())};
  const JsonField regex = pattern.at ("Regex");
  try {
    return split_stage (regex.string (), behavior, invert);
  } catch (const std::invalid_argument &error) {
    regex.fail (error.what ());
  }
}

void
read_metaspace (const JsonField &field, PreTokenizer &pre_tokenizer)
{
  using Stage = PreTokenizer::Stage;
  const std::string mark = read_mark (field.at ("replacement"));
  pre_tokenizer.stages.push_back ({.kind = Stage::kMetaspace, .prefix = Stage::kAlways, .replacement = mark});
  switch (read_prepend_scheme (field)) {
  case PrependScheme::kNever:
    pre_tokenizer.stages.back ().prefix = Stage::kNever;
    break;
  case PrependScheme::kFirst:
    pre_tokenizer.stages.back ().prefix = Stage::kFirst;
    break;
  case PrependScheme::kAlways:
    break;
  }
  if (field.boolean_or ("split", true))
    pre_tokenizer.stages.push_back ({.kind = Stage::kMetaspacePieces, .replacement = mark});
}

} // namespace

std::string
read_inserted (const JsonField &field)
{
  const std::string_view text = field.string ();
  if (text.size () > kMostInserted)
    field.fail ("has " + std::to_string (text.size ()) + " bytes; more than " +
                std::to_string (kMostInserted) + " are not supported");
  return std::string (text);
}

std::string
read_mark (const JsonField &field)
{
  std::string mark = read_inserted (field);
  if (mark.empty ())
    field.fail ("must not be empty");
  return mark;
}

PrependScheme
read_prepend_scheme (const JsonField &field)
{
  // Files of before there were schemes say whether a space is added.
  if (!field.boolean_or ("add_prefix_space", true))
    return PrependScheme::kNever;
  const auto scheme = field.find ("prepend_scheme");
  if (!scheme || scheme->string () == "always")
    return PrependScheme::kAlways;
  if (scheme->string () == "first")
    return PrependScheme::kFirst;
  if (scheme->string () == "never")
    return PrependScheme::kNever;
  scheme->fail (std::string (scheme->string ()) + " is not a scheme; known are always, first and never");
}

void
read_pre_tokenizer (const JsonField &field, PreTokenizer &pre_tokenizer, int depth)
{
  using Stage = PreTokenizer::Stage;
  const JsonField type = field.at ("type");
  const std::string_view name = type.string ();
  if (name == "Sequence") {
    if (depth == kMaxNesting)
      field.fail ("sequences are nested too deeply");
    const JsonField list = field.at ("pretokenizers");
    size_t index = 0;
    for (const auto element : list.array ())
      read_pre_tokenizer (list.item (index++, element), pre_tokenizer, depth + 1);
    return;
  }
  // What comes after ByteLevel would see its alphabet instead of the text.
  if (pre_tokenizer.byte_level)
    type.fail (std::string (name) + " after ByteLevel is not supported");
  if (name == "ByteLevel") {
    if (field.at ("add_prefix_space").boolean ())
      pre_tokenizer.stages.push_back ({.kind = Stage::kPrefixSpace});
    if (field.boolean_or ("use_regex", true))
      pre_tokenizer.stages.push_back (split_stage (kByteLevelPattern));
    pre_tokenizer.byte_level = true;
  } else if (name == "Split") {
    pre_tokenizer.stages.push_back (read_split (field));
  } else if (name == "Metaspace") {
    read_metaspace (field, pre_tokenizer);
  } else if (name == "BertPreTokenizer") {
    pre_tokenizer.stages.push_back ({.kind = Stage::kBert});
  } else if (name == "Whitespace") {
    pre_tokenizer.stages.push_back ({.kind = Stage::kWords});
  } else if (name == "WhitespaceSplit") {
    pre_tokenizer.stages.push_back (split_stage (R"(\s)", SplitBehavior::kRemoved));
  } else if (name == "Punctuation") {
    const auto behavior = field.find ("behavior");
    pre_tokenizer.stages.push_back (
        {.kind = Stage::kPunctuation,
         .behavior = behavior ? read_behavior (*behavior) : SplitBehavior::kIsolated});
  } else if (name == "CharDelimiterSplit") {
    pre_tokenizer.stages.push_back (
        {.kind = Stage::kSplit,
         .behavior = SplitBehavior::kRemoved,
         .pattern = std::make_shared<const Regex> (Regex::literal (read_mark (field.at ("delimiter"))))});
  } else if (name == "Digits") {
    const bool individual = field.at ("individual_digits").boolean ();
    pre_tokenizer.stages.push_back (
        {.kind = Stage::kDigits,
         .behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
  } else {
    unsupported (type);
  }
}

} // namespace millrace
