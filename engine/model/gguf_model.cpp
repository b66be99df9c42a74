// A GGUF file as a model: architecture, tokenizer, template and weights of one file.
#include "engine/model/model_files.hpp"

#include "engine/model/gguf_config.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/tokenizer/tokenizer_gguf.hpp"
#include "engine/weights/gguf_fields.hpp"
#include "engine/weights/tensor_entry.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <optional>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr TokenId kNoId = -1;
constexpr const char *kTokenizer = "tokenizer.ggml.model";
constexpr const char *kTokens = "tokenizer.ggml.tokens";
constexpr const char *kBos = "tokenizer.ggml.bos_token_id";
constexpr const char *kEos = "tokenizer.ggml.eos_token_id";
constexpr const char *kTemplate = "tokenizer.chat_template";

std::optional<bool>
flag (const GgufFields &fields, const char *key)
{
  return fields.has (key) ? std::optional (fields.boolean_or (key, false)) : std::nullopt;
}

/// An id of the vocabulary, or kNoId when the file names none.
TokenId
token_id (const GgufFields &fields, const char *key, int vocab)
{
  return static_cast<TokenId> (fields.integer_or (key, 0, vocab - 1, kNoId));
}

/// Phi-3's tokens take the white space after them; GGUF files do not say so.
bool
strips_after_special (const GgufFields &fields)
{
  const std::string_view name = fields.text_or ("general.name", "");
  for (const std::string_view part : {"phi-3", "phi3", "Phi-3", "Phi3"})
    if (name.find (part) != std::string_view::npos)
      return true;
  return false;
}

/// An array of bytes.
std::string_view
bytes_of (const GgufFields &fields, const char *key)
{
  const GgufValue *value = fields.find (key);
  if (!value)
    return {};
  if (value->type != GgufType::kArray ||
      (value->element != GgufType::kUint8 && value->element != GgufType::kInt8))
    fields.fail (key,
                 "is " + GgufFields::shown (*value) + ", expected an array of bytes; fetch the file again");
  return {reinterpret_cast<const char *> (value->bytes.data ()), value->bytes.size ()};
}

std::shared_ptr<const Tokenizer>
load_tokenizer (const GgufFields &fields, int vocab)
{
  if (!fields.has (kTokenizer))
    return nullptr;
  const std::vector<int32_t> types = fields.integers ("tokenizer.ggml.token_type");
  GgufVocabulary vocabulary;
  vocabulary.model = fields.text (kTokenizer);
  vocabulary.pre = fields.text_or ("tokenizer.ggml.pre", "default");
  // Other models' lists need not be there, and are refused by the model's name.
  static const std::vector<std::string_view> kNone;
  vocabulary.tokens = fields.has (kTokens) ? fields.texts (kTokens) : kNone;
  vocabulary.merges = fields.has ("tokenizer.ggml.merges") ? fields.texts ("tokenizer.ggml.merges") : kNone;
  vocabulary.types = types;
  vocabulary.bos = token_id (fields, kBos, vocab);
  vocabulary.eos = token_id (fields, kEos, vocab);
  vocabulary.add_bos = flag (fields, "tokenizer.ggml.add_bos_token");
  vocabulary.add_eos = flag (fields, "tokenizer.ggml.add_eos_token");
  const std::vector<float> scores = fields.numbers ("tokenizer.ggml.scores");
  vocabulary.scores = scores;
  vocabulary.unknown = token_id (fields, "tokenizer.ggml.unknown_token_id", vocab);
  vocabulary.separator = token_id (fields, "tokenizer.ggml.seperator_token_id", vocab);
  vocabulary.precompiled_charsmap = bytes_of (fields, "tokenizer.ggml.precompiled_charsmap");
  vocabulary.add_space_prefix = flag (fields, "tokenizer.ggml.add_space_prefix");
  vocabulary.remove_extra_whitespaces = flag (fields, "tokenizer.ggml.remove_extra_whitespaces");
  vocabulary.lowercase = flag (fields, "tokenizer.ggml.normalizer.lowercase");
  vocabulary.strip_accents = flag (fields, "tokenizer.ggml.normalizer.strip_accents");
  vocabulary.strips_after_special = strips_after_special (fields);
  auto tokenizer = load_gguf_tokenizer (fields.file (), vocabulary);
  if (tokenizer->vocab_size () > vocab)
    fields.fail (kTokens, "has " + std::to_string (tokenizer->vocab_size ()) +
                              " tokens but the model's vocabulary is " + std::to_string (vocab) +
                              "; the tokenizer belongs to another model");
  return tokenizer;
}

/// The end of a text, and where the file names them the ends of a turn and of a message.
std::vector<TokenId>
end_of_sequence_ids (const GgufFields &fields, int vocab)
{
  std::vector<TokenId> ids;
  for (const char *key : {kEos, "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const TokenId id = token_id (fields, key, vocab);
    if (id != kNoId && std::find (ids.begin (), ids.end (), id) == ids.end ())
      ids.push_back (id);
  }
  return ids;
}

/// What a template knows as bos_token and eos_token.
std::string
token_text (const GgufFields &fields, const char *key, int vocab)
{
  const TokenId id = token_id (fields, key, vocab);
  if (id == kNoId || !fields.has (kTokens) || static_cast<size_t> (id) >= fields.texts (kTokens).size ())
    return {};
  return std::string (fields.texts (kTokens)[static_cast<size_t> (id)]);
}

class GgufModel final : public ModelFiles
{
public:
  explicit GgufModel (const fs::path &file)
      : file_ (file)
      , mapped_ (file)
      , header_ (parse_gguf (file, mapped_.bytes ()))
      , fields_ (file, header_.metadata)
  {
  }

  bool of_gguf () const override { return true; }
  const fs::path &path () const override { return file_; }

  const WeightFiles &weights () override
  {
    return weights_ ? *weights_ : weights_.emplace (WeightFiles::open_file (file_));
  }

  ArchitectureSpec architecture () override
  {
    ArchitectureSpec spec = gguf_architecture (fields_, weights ());
    spec.bos_token_id = token_id (fields_, kBos, spec.vocab);
    spec.eos_token_ids = millrace::end_of_sequence_ids (fields_, spec.vocab);
    return spec;
  }
  std::string architecture_name () override
  {
    const GgufValue *name = fields_.find ("general.architecture");
    return name && name->type == GgufType::kString ? printable (name->text) : std::string ();
  }
  GenerationConfig generation () override { return {}; }
  std::vector<TokenId> end_of_sequence_ids (const ArchitectureSpec &spec, const GenerationConfig &) override
  {
    return spec.eos_token_ids;
  }

  std::shared_ptr<const Tokenizer> tokenizer (int vocab) override { return load_tokenizer (fields_, vocab); }
  std::string tokenizer_kind () override
  {
    if (!fields_.has (kTokenizer))
      return {};
    const std::string_view pre = fields_.text_or ("tokenizer.ggml.pre", "");
    return printable (fields_.text (kTokenizer)) + (pre.empty () ? "" : ", cut as " + printable (pre)) +
           ", GGUF metadata";
  }

  std::shared_ptr<const ChatTemplate> chat_template () override
  {
    return fields_.has (kTemplate) ? compile_chat_template (fields_.text (kTemplate), file_, kTemplate)
                                   : nullptr;
  }
  std::string template_source () override { return std::string (fields_.text_or (kTemplate, "")); }
  std::string template_origin () override { return fields_.has (kTemplate) ? kTemplate : ""; }

  std::string bos_token (int vocab) override { return token_text (fields_, kBos, vocab); }
  std::string eos_token (int vocab) override { return token_text (fields_, kEos, vocab); }

private:
  fs::path file_;
  MappedFile mapped_;
  GgufHeader header_;
  GgufFields fields_;
  std::optional<WeightFiles> weights_;
};

} // namespace

std::unique_ptr<ModelFiles>
open_gguf_model (const fs::path &file)
{
  return std::make_unique<GgufModel> (file);
}

} // namespace millrace
