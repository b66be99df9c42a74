#include "engine/tokenizer/tokenizer_json.hpp"

namespace millrace
{

namespace
{

constexpr int64_t kMaxStripped = 1 << 16;

int32_t
read_token_id (const JsonField &field, const TokenizerParts &parts)
{
  const auto id = static_cast<int32_t> (field.integer (0, kMaxTokenId));
  if (id >= parts.vocabulary.size () || !(parts.vocabulary.flags[id] & Vocabulary::kPresent))
    field.fail ("the id " + std::to_string (id) + " is no token of this file");
  return id;
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
      const int32_t id = read_token_id (ids.item (id_index++, id_element), parts);
      (after_text ? parts.suffix : parts.prefix).push_back (id);
    }
  }
  if (!after_text)
    single.fail ("has no sequence A");
}

/// A token as ["[SEP]", 102].
int32_t
read_end (const JsonField &field, const TokenizerParts &parts)
{
  const simdjson::dom::array pair = field.array ();
  simdjson::dom::element id_element;
  if (pair.size () != 2 || pair.at (1).get (id_element))
    field.fail ("must be an array of a token and its id");
  return read_token_id (field.item (1, id_element), parts);
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
  } else if (name == "BertProcessing" || name == "RobertaProcessing") {
    if (has_template)
      type.fail (std::string (name) + " after another template is not supported");
    has_template = true;
    parts.prefix.push_back (read_end (field.at ("cls"), parts));
    parts.suffix.push_back (read_end (field.at ("sep"), parts));
  } else if (name != "ByteLevel") { // which trims offsets and adds no token
    unsupported (type);
  }
}

/// What is left out at the beginning of the whole text.
void
read_strip_of_text (const JsonField &field, TokenTexts &texts)
{
  if (field.at ("stop").integer (0, kMaxStripped) != 0)
    field.at ("stop").fail (
        "must be 0 after Fuse; what the end of a text is, is not known while it is written");
  if (texts.leading_count)
    field.fail ("a second Strip after Fuse is not supported");
  texts.leading = field.at ("content").string ();
  texts.leading_count =
      texts.leading.empty () ? 0 : static_cast<size_t> (field.at ("start").integer (0, kMaxStripped));
}

/// A decoder that works on one token after the other.
DecoderStep
read_decoder_step (const JsonField &field, TokenizerParts &parts)
{
  const JsonField type = field.at ("type");
  const std::string_view name = type.string ();
  DecoderStep step;
  if (name == "ByteLevel") {
    step.kind = DecoderStep::kByteLevel;
  } else if (name == "ByteFallback") {
    step.kind = DecoderStep::kByteFallback;
    parts.texts.each_byte_replaced = true;
  } else if (name == "Replace") {
    step.kind = DecoderStep::kReplace;
    step.pattern = read_pattern (field.at ("pattern"));
    step.content = read_inserted (field.at ("content"));
  } else if (name == "Strip") {
    step.kind = DecoderStep::kStrip;
    step.content = read_inserted (field.at ("content"));
    step.left = static_cast<size_t> (field.at ("start").integer (0, kMaxStripped));
    step.right = static_cast<size_t> (field.at ("stop").integer (0, kMaxStripped));
  } else if (name == "Metaspace") {
    step.kind = DecoderStep::kMetaspace;
    step.content = read_inserted (field.at ("replacement"));
    step.drop_first = read_prepend_scheme (field) != PrependScheme::kNever;
    parts.texts.first_forms = FirstForms::kFirstToken;
  } else if (name == "WordPiece") {
    step.kind = DecoderStep::kWordPiece;
    step.content = field.at ("prefix").string ();
    parts.texts.first_forms = FirstForms::kFirstToken;
  } else if (name == "BPEDecoder") {
    step.kind = DecoderStep::kEndOfWord;
    step.content = read_mark (field.at ("suffix"));
    parts.texts.last_forms = true;
  } else {
    unsupported (type);
  }
  return step;
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
  } else if (name == "Fuse") {
    fused = true;
  } else if (fused && name == "Strip") {
    read_strip_of_text (field, parts.texts);
  } else if (fused) {
    // On fused text it would see more than a token at once.
    type.fail (std::string (name) + " after Fuse or ByteLevel is not supported");
  } else {
    parts.decoder.push_back (read_decoder_step (field, parts));
    fused = name == "ByteLevel";
    if (name == "WordPiece" && field.boolean_or ("cleanup", true))
      parts.decoder.push_back ({.kind = DecoderStep::kCleanup});
  }
}

} // namespace

void
unsupported (const JsonField &type)
{
  type.fail (std::string (type.string ()) + " is not supported");
}

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
    read_normalizer (*field, parts.normalizer, 0);
  if (const auto field = root.find ("pre_tokenizer"))
    read_pre_tokenizer (*field, parts.pre_tokenizer, 0);
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
