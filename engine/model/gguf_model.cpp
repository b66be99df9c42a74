// Opens a GGUF file as a model.
#include "engine/model/gguf_model.hpp"

#include "engine/error.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/gguf_config.hpp"
#include "engine/model/tensor_names.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/tokenizer/tokenizer_gguf.hpp"
#include "engine/weights/gguf_fields.hpp"
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

std::shared_ptr<const Tokenizer>
load_tokenizer (const GgufFields &fields, const ArchitectureSpec &spec)
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
  vocabulary.bos = token_id (fields, kBos, spec.vocab);
  vocabulary.eos = token_id (fields, kEos, spec.vocab);
  vocabulary.add_bos = flag (fields, "tokenizer.ggml.add_bos_token");
  vocabulary.add_eos = flag (fields, "tokenizer.ggml.add_eos_token");
  auto tokenizer = load_gguf_tokenizer (fields.file (), vocabulary);
  if (tokenizer->vocab_size () > spec.vocab)
    fields.fail (kTokens, "has " + std::to_string (tokenizer->vocab_size ()) +
                              " tokens but the model's vocabulary is " + std::to_string (spec.vocab) +
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

} // namespace

std::shared_ptr<const Model>
open_gguf_model (const fs::path &file, const ModelOptions &options)
{
  const MappedFile mapped (file);
  const GgufHeader header = parse_gguf (file, mapped.bytes ());
  const GgufFields fields (file, header.metadata);
  const WeightFiles weights = WeightFiles::open_file (file);

  auto model = std::make_shared<Model> ();
  model->directory = file;
  model->spec = gguf_architecture (fields, weights);
  const int vocab = model->spec.vocab;
  model->spec.bos_token_id = token_id (fields, kBos, vocab);
  model->spec.eos_token_ids = end_of_sequence_ids (fields, vocab);
  model->eos_token_ids = model->spec.eos_token_ids;
  model->tokenizer = load_tokenizer (fields, model->spec);
  model->bos_token = token_text (fields, kBos, vocab);
  model->eos_token = token_text (fields, kEos, vocab);
  if (fields.has (kTemplate))
    model->chat_template = compile_chat_template (fields.text (kTemplate), file, kTemplate);

  const Program program = build_program (model->spec, weights);
  require_tensors (program, weights);
  model->unread_tensors = unread_tensors (program, model->spec, weights);
  model->compiled =
      create_cpu_backend (options.cpu)->compile (program, weights, compile_options (options, file));
  return model;
}

} // namespace millrace
