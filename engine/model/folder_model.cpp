// A folder in the layout of a Hugging Face checkpoint.
#include "engine/model/model_files.hpp"

#include "engine/error.hpp"
#include "engine/model/quantization.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/tokenizer/tokenizer_sentencepiece.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <simdjson.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr size_t kMaxTextFileBytes = 64u << 20;
constexpr const char *kConfig = "config.json", *kTokenizer = "tokenizer.json", *kPieces = "tokenizer.model",
                     *kTokenizerConfig = "tokenizer_config.json", *kTemplate = "chat_template.jinja";
constexpr const char *kFolderContents =
    "a model folder holds config.json, model.safetensors (or model.safetensors.index.json and its shards), "
    "and usually tokenizer.json or tokenizer.model, tokenizer_config.json and generation_config.json; a "
    "model in one file is a "
    "GGUF file, NAME.gguf";

bool
is_there (const fs::path &file)
{
  std::error_code error;
  return fs::exists (file, error);
}

void
check_folder (const fs::path &directory)
{
  std::error_code error;
  const fs::file_status status = fs::status (directory, error);
  if (!fs::exists (status))
    throw LoadError (directory, "", std::string ("there is no such folder or file; ") + kFolderContents);
  if (!fs::is_directory (status))
    throw LoadError (directory, "", std::string ("is not a folder; ") + kFolderContents);
  if (!is_there (directory / kConfig))
    throw LoadError (directory, kConfig, std::string ("is missing; ") + kFolderContents);
}

std::string_view
text_of (const MappedFile &file)
{
  const auto bytes = file.bytes ();
  if (bytes.size () > kMaxTextFileBytes)
    throw LoadError (file.path (), "", "is larger than such a file can be; is it the right one?");
  return {reinterpret_cast<const char *> (bytes.data ()), bytes.size ()};
}

/// A member of a JSON file, for people: text, or nothing where there is none.
std::string
text_in (const fs::path &file, std::string_view pointer)
{
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  std::string_view text;
  if (!is_there (file) || parser.load (file.string ()).get (root) || root.at_pointer (pointer).get (text))
    return {};
  return printable (text);
}

/// The parts of tokenizer_config.json that a model needs; an absent file gives none of them.
class TokenizerConfig
{
public:
  explicit TokenizerConfig (const fs::path &file)
      : file_ (file)
  {
    if (!is_there (file))
      return;
    const MappedFile mapped (file);
    const std::string_view text = text_of (mapped);
    simdjson::dom::object root;
    if (const auto error = parser_.parse (text.data (), text.size ()).get (root))
      throw LoadError (file, "",
                       std::string ("is not a JSON object (") + simdjson::error_message (error) +
                           "); fetch it again");
    root_ = root;
  }

  /// A string, an object with `content`, or null.
  std::string token (const char *name) const
  {
    const auto value = find (name);
    if (!value)
      return {};
    std::string_view text;
    if (value->get (text) && (*value)["content"].get (text))
      throw LoadError (file_, name, "must be a string, an object with \"content\", or null");
    return std::string (text);
  }

  /// One template, or the one named "default" of an array of {name, template}.
  std::optional<std::string_view> chat_template () const
  {
    const auto value = find ("chat_template");
    if (!value)
      return std::nullopt;
    std::string_view text;
    if (!value->get (text))
      return text;
    simdjson::dom::array entries;
    if (value->get (entries))
      throw LoadError (file_, "chat_template", "must be a string or an array of {name, template}");
    for (const auto entry : entries) {
      std::string_view name;
      if (entry["name"].get (name) || entry["template"].get (text))
        throw LoadError (file_, "chat_template", "each entry needs the strings \"name\" and \"template\"");
      if (name == "default")
        return text;
    }
    return std::nullopt;
  }

  /// What tokenizer.model does not say.
  SentencePieceOptions sentencepiece () const
  {
    SentencePieceOptions options;
    options.add_bos = flag ("add_bos_token");
    options.add_eos = flag ("add_eos_token");
    const auto value = find ("added_tokens_decoder");
    if (!value)
      return options;
    simdjson::dom::object tokens;
    if (value->get (tokens))
      throw LoadError (file_, "added_tokens_decoder", "must be an object; fetch the file again");
    for (const auto [key, token] : tokens)
      options.added.push_back (added_token (key, token));
    return options;
  }

private:
  std::optional<bool> flag (const char *name) const
  {
    const auto value = find (name);
    bool set = false;
    if (!value)
      return std::nullopt;
    if (value->get (set))
      throw LoadError (file_, name, "must be true or false");
    return set;
  }

  AddedToken added_token (std::string_view key, simdjson::dom::element value) const
  {
    AddedToken token;
    std::string_view content;
    const auto end = key.data () + key.size ();
    const auto read = std::from_chars (key.data (), end, token.id);
    if (read.ec != std::errc () || read.ptr != end || token.id < 0 || value["content"].get (content))
      throw LoadError (file_, "added_tokens_decoder", "must have objects with \"content\" under their ids");
    token.content = content;
    const auto is = [&] (const char *name) {
      bool set = false;
      return !value[name].get (set) && set;
    };
    token.single_word = is ("single_word");
    token.lstrip = is ("lstrip");
    token.rstrip = is ("rstrip");
    token.special = is ("special");
    return token;
  }

  std::optional<simdjson::dom::element> find (const char *name) const
  {
    simdjson::dom::element value;
    if (!root_ || root_->at_key (name).get (value) || value.is_null ())
      return std::nullopt;
    return value;
  }

  fs::path file_;
  simdjson::dom::parser parser_;
  std::optional<simdjson::dom::object> root_;
};

/// added_tokens.json of older checkpoints: contents and ids, all of them special.
void
read_added_tokens (const fs::path &file, std::vector<AddedToken> &added)
{
  if (!is_there (file))
    return;
  simdjson::dom::parser parser;
  simdjson::dom::object tokens;
  if (parser.load (file.string ()).get (tokens))
    throw LoadError (file, "", "is not a JSON object; fetch it again");
  for (const auto [key, value] : tokens) {
    AddedToken token;
    int64_t id = 0;
    if (value.get (id) || id < 0 || id > std::numeric_limits<TokenId>::max ())
      throw LoadError (file, printable (key), "must be an id of a token");
    token.id = static_cast<TokenId> (id);
    token.content = key;
    token.special = true;
    if (std::none_of (added.begin (), added.end (),
                      [&] (const AddedToken &other) { return other.id == token.id; }))
      added.push_back (std::move (token));
  }
}

void
check_vocabulary (const fs::path &file, const Tokenizer &tokenizer, int vocab)
{
  if (tokenizer.vocab_size () > vocab)
    throw LoadError (file, "",
                     "has ids up to " + std::to_string (tokenizer.vocab_size () - 1) +
                         " but config.json's vocab_size is " + std::to_string (vocab) +
                         "; the tokenizer belongs to another model");
}

/// generation_config.json names them better than config.json, where both do.
std::vector<TokenId>
end_of_sequence_ids (const fs::path &directory, const ArchitectureSpec &spec,
                     const GenerationConfig &generation)
{
  const bool general = generation.eos_token_ids.empty ();
  const auto &ids = general ? spec.eos_token_ids : generation.eos_token_ids;
  for (const TokenId id : ids) {
    if (id < 0 || id >= spec.vocab)
      throw LoadError (directory / (general ? kConfig : "generation_config.json"), "eos_token_id",
                       std::to_string (id) + " is not in the vocabulary of " + std::to_string (spec.vocab) +
                           " tokens");
  }
  return ids;
}

class FolderModel final : public ModelFiles
{
public:
  explicit FolderModel (const fs::path &folder)
      : folder_ (folder)
  {
    check_folder (folder);
  }

  bool of_gguf () const override { return false; }
  const fs::path &path () const override { return folder_; }

  const WeightFiles &weights () override
  {
    if (weights_)
      return *weights_;
    const auto quantization = load_quantization (folder_ / kConfig);
    WeightFiles files = WeightFiles::open (folder_);
    if (quantization)
      apply_quantization (files, *quantization);
    return weights_.emplace (std::move (files));
  }

  ArchitectureSpec architecture () override { return load_architecture (folder_ / kConfig); }
  std::string architecture_name () override { return text_in (folder_ / kConfig, "/model_type"); }
  GenerationConfig generation () override
  {
    return load_generation_config (folder_ / "generation_config.json");
  }
  std::vector<TokenId> end_of_sequence_ids (const ArchitectureSpec &spec,
                                            const GenerationConfig &generation) override
  {
    return millrace::end_of_sequence_ids (folder_, spec, generation);
  }

  std::shared_ptr<const Tokenizer> tokenizer (int vocab) override
  {
    const fs::path json = folder_ / kTokenizer, pieces = folder_ / kPieces;
    std::shared_ptr<const Tokenizer> tokenizer;
    if (is_there (json)) {
      tokenizer = Tokenizer::load (json);
    } else if (is_there (pieces)) {
      SentencePieceOptions options = tokenizer_config ().sentencepiece ();
      read_added_tokens (folder_ / "added_tokens.json", options.added);
      for (const AddedToken &token : options.added)
        if (token.id >= vocab)
          throw LoadError (folder_ / kTokenizerConfig, "added_tokens_decoder",
                           "has the id " + std::to_string (token.id) + " but config.json's vocab_size is " +
                               std::to_string (vocab) + "; the tokenizer belongs to another model");
      tokenizer = load_sentencepiece_tokenizer (pieces, options);
    }
    if (tokenizer)
      check_vocabulary (is_there (json) ? json : pieces, *tokenizer, vocab);
    return tokenizer;
  }
  std::string tokenizer_kind () override
  {
    if (!is_there (folder_ / kTokenizer) && is_there (folder_ / kPieces))
      return "SentencePiece " + std::string (sentencepiece_model_type (folder_ / kPieces)) + ", " + kPieces;
    const std::string type = text_in (folder_ / kTokenizer, "/model/type");
    return type.empty () ? type : type + ", " + kTokenizer;
  }

  std::shared_ptr<const ChatTemplate> chat_template () override
  {
    const std::string origin = template_origin (), source = template_source ();
    if (source.empty ())
      return nullptr;
    return compile_chat_template (source, folder_ / origin, origin == kTemplate ? "" : "chat_template");
  }
  std::string template_source () override
  {
    if (!is_there (folder_ / kTemplate))
      return std::string (tokenizer_config ().chat_template ().value_or (""));
    const MappedFile mapped (folder_ / kTemplate);
    return std::string (text_of (mapped));
  }
  std::string template_origin () override
  {
    return is_there (folder_ / kTemplate)         ? kTemplate
           : tokenizer_config ().chat_template () ? kTokenizerConfig
                                                  : "";
  }

  std::string bos_token (int) override { return tokenizer_config ().token ("bos_token"); }
  std::string eos_token (int) override { return tokenizer_config ().token ("eos_token"); }

private:
  const TokenizerConfig &tokenizer_config ()
  {
    if (!tokenizer_config_)
      tokenizer_config_ = std::make_unique<TokenizerConfig> (folder_ / kTokenizerConfig);
    return *tokenizer_config_;
  }

  fs::path folder_;
  std::unique_ptr<TokenizerConfig> tokenizer_config_;
  std::optional<WeightFiles> weights_;
};

} // namespace

std::unique_ptr<ModelFiles>
open_model_folder (const fs::path &folder)
{
  return std::make_unique<FolderModel> (folder);
}

} // namespace millrace
