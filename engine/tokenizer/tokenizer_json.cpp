#include "engine/tokenizer/tokenizer_json.hpp"

#include <array>
#include <stdexcept>

namespace millrace
{

namespace
{

constexpr int kMaxNesting = 16; ///< of Sequence in Sequence

[[noreturn]] void
unsupported (const JsonField &type)
{
  type.fail (std::string (type.string ()) + " is not supported; a byte-level BPE tokenizer is needed");
}

std::shared_ptr<const Regex>
compile (const JsonField &pattern)
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

void
read_normalizer (const JsonField &field, Normalizer &normalizer, int depth = 0)
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
    step.pattern = compile (field.at ("pattern"));
    step.content = field.at ("content").string ();
  } else if (name == "Prepend") {
    step.kind = Step::kPrepend;
    step.content = field.at ("prepend").string ();
  } else if (name == "Strip") {
    step.kind = Step::kStrip;
    step.left = field.at ("strip_left").boolean ();
    step.right = field.at ("strip_right").boolean ();
  } else {
    unsupported (type);
  }
  normalizer.steps.push_back (std::move (step));
}

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

void
read_pre_tokenizer (const JsonField &field, PreTokenizer &pre_tokenizer, int depth = 0)
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
      pre_tokenizer.stages.push_back (
          {.kind = Stage::kSplit,
           .pattern = std::make_shared<const Regex> (Regex::compile (kByteLevelPattern))});
    pre_tokenizer.byte_level = true;
  } else if (name == "Split") {
    pre_tokenizer.stages.push_back ({.kind = Stage::kSplit,
                                     .behavior = read_behavior (field.at ("behavior")),
                                     .invert = field.at ("invert").boolean (),
                                     .pattern = compile (field.at ("pattern"))});
  } else if (name == "Digits") {
    const bool individual = field.at ("individual_digits").boolean ();
    pre_tokenizer.stages.push_back (
        {.kind = Stage::kDigits,
         .behavior = individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous});
  } else {
    unsupported (type);
  }
}

/// The template of one sequence: special tokens around exactly one "$A".
void
read_template (const JsonField &field, TokenizerParts &parts)
{
  const JsonField single = field.at ("single");
  bool after_text = false;
  size_t index = 0;
  for (const auto element : single.array ()) {
    const JsonField piece = single.item (index++, element);
    if (const auto sequence = piece.find ("Sequence")) {
      if (sequence->at ("id").string () != "A" || after_text)
        sequence->fail ("only one sequence A is supported");
      after_text = true;
      continue;
    }
    const JsonField name = piece.at ("SpecialToken").at ("id");
    const JsonField token = field.at ("special_tokens").at (name.string ());
    const JsonField ids = token.at ("ids");
    size_t id_index = 0;
    for (const auto id_element : ids.array ()) {
      const JsonField item = ids.item (id_index++, id_element);
      const auto id = static_cast<int32_t> (item.integer (0, kMaxTokenId));
      if (id >= parts.vocabulary.size () || !(parts.vocabulary.flags[id] & Vocabulary::kPresent))
        item.fail ("the id " + std::to_string (id) + " is no token of this file");
      (after_text ? parts.suffix : parts.prefix).push_back (id);
    }
  }
  if (!after_text)
    single.fail ("has no sequence A");
}

void
read_post_processor (const JsonField &field, TokenizerParts &parts, bool &has_template, int depth = 0)
{
  const JsonField type = field.at ("type");
  const std::string_view name = type.string ();
  if (name == "Sequence") {
    if (depth == kMaxNesting)
      field.fail ("sequences are nested too deeply");
    const JsonField list = field.at ("processors");
    size_t index = 0;
    for (const auto element : list.array ())
      read_post_processor (list.item (index++, element), parts, has_template, depth + 1);
  } else if (name == "TemplateProcessing") {
    if (has_template)
      type.fail ("a second TemplateProcessing is not supported");
    has_template = true;
    read_template (field, parts);
  } else if (name != "ByteLevel") { // which trims offsets and adds no token
    unsupported (type);
  }
}

void
read_decoder (const JsonField &field, TokenizerParts &parts, bool &fused, int depth = 0)
{
  const JsonField type = field.at ("type");
  const std::string_view name = type.string ();
  if (name == "Sequence") {
    if (depth == kMaxNesting)
      field.fail ("sequences are nested too deeply");
    const JsonField list = field.at ("decoders");
    size_t index = 0;
    for (const auto element : list.array ())
      read_decoder (list.item (index++, element), parts, fused, depth + 1);
  } else if (name == "ByteLevel") {
    // On fused text the alphabet would apply to all tokens or to none, and twice it makes no sense.
    if (fused)
      type.fail ("ByteLevel after Fuse or ByteLevel is not supported");
    parts.decoder.push_back ({.kind = DecoderStep::kByteLevel});
    fused = true;
  } else if (name == "Fuse") {
    fused = true;
  } else {
    unsupported (type);
  }
}

void
read_model (const JsonField &root, TokenizerParts &parts)
{
  const JsonField model = root.at ("model");
  if (const auto type = model.find ("type"); type && type->string () != "BPE")
    unsupported (*type);
  if (const auto dropout = model.find ("dropout"))
    dropout->fail ("dropout is for training; it must be null");
  for (const char *name : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const auto affix = model.find (name); affix && !affix->string ().empty ())
      affix->fail (std::string ("a non-empty ") + name + " is not supported");
  if (model.boolean_or ("byte_fallback", false))
    model.at ("byte_fallback").fail ("byte fallback is not supported; it must be false");
  Bpe &bpe = parts.model.emplace<Bpe> ();
  bpe.fuse_unknown = model.boolean_or ("fuse_unk", false);
  bpe.ignore_merges = model.boolean_or ("ignore_merges", false);

  read_vocabulary (root, parts);
  if (const auto unknown = model.find ("unk_token")) {
    bpe.unknown = parts.vocabulary.model_id (unknown->string ());
    if (bpe.unknown == kNoToken)
      unknown->fail (std::string (unknown->string ()) + " is not in model.vocab");
  }
  read_merges (model, parts.vocabulary, bpe);
}

} // namespace

TokenizerParts
read_tokenizer_json (const std::filesystem::path &file)
{
  std::error_code error;
  if (!std::filesystem::is_regular_file (file, error))
    throw LoadError (file, "", "is not a file; a model's tokenizer.json is needed");
  simdjson::dom::parser parser;
  simdjson::dom::element element;
  if (const auto problem = parser.load (file.string ()).get (element))
    throw LoadError (file, "", std::string ("cannot be read as JSON: ") + simdjson::error_message (problem));

  const JsonField root (file, "", element);
  root.object ();
  if (const auto version = root.find ("version"); version && version->string () != "1.0")
    version->fail ("version " + std::string (version->string ()) + " is not supported, only 1.0 is");

  TokenizerParts parts;
  read_model (root, parts);
  if (const auto field = root.find ("normalizer"))
    read_normalizer (*field, parts.normalizer);
  if (const auto field = root.find ("pre_tokenizer"))
    read_pre_tokenizer (*field, parts.pre_tokenizer);
  bool has_template = false, fused = false;
  if (const auto field = root.find ("post_processor"))
    read_post_processor (*field, parts, has_template);
  if (const auto field = root.find ("decoder"))
    read_decoder (*field, parts, fused);
  else
    parts.texts.separator = " ";
  return parts;
}

} // namespace millrace
