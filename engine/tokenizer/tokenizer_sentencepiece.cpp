#include "engine/tokenizer/tokenizer_sentencepiece.hpp"

#include "engine/error.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/tokenizer/protobuf_reader.hpp"
#include "engine/tokenizer/sentencepiece_parts.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace millrace
{

namespace
{

constexpr size_t kMaxFileBytes = 64u << 20;
constexpr size_t kMaxUnknownSurface = 256;
constexpr const char *kDamaged = "; the file is damaged or not a SentencePiece model, fetch it again";

/// TrainerSpec.ModelType
enum class ModelType : uint64_t { kUnigram = 1, kBpe = 2, kWord = 3, kChar = 4 };

/// What tokenizer.model says, with the defaults of sentencepiece_model.proto.
struct ModelProto {
  std::vector<SentencePiece> pieces;
  ModelType type = ModelType::kUnigram;
  bool byte_fallback = false;
  int64_t bos = 1, eos = 2;
  std::string unknown_surface = " \xE2\x81\x87 ";
  SentencePieceNormalizer normalizer;
};

class Reader
{
public:
  explicit Reader (const std::filesystem::path &file)
      : file_ (file)
  {
  }

  ModelProto read (std::string_view bytes)
  {
    each_field (bytes, "", [&] (const ProtobufField &field) {
      if (field.number > 5)
        return;
      expect (field, ProtobufField::kBytes, "field " + std::to_string (field.number));
      if (field.number == 1)
        read_piece (field.bytes);
      else if (field.number == 2)
        read_trainer (field.bytes);
      else if (field.number == 3)
        read_normalizer (field.bytes);
      else if (field.number == 5)
        read_denormalizer (field.bytes);
    });
    return std::move (model_);
  }

private:
  [[noreturn]] void fail (const std::string &field, const std::string &problem) const
  {
    throw LoadError (file_, field, problem);
  }

  template <typename Function>
  void each_field (std::string_view bytes, const std::string &name, const Function &visit) const
  {
    ProtobufReader reader (bytes);
    ProtobufField field;
    while (reader.next (field))
      visit (field);
    if (reader.failed ())
      fail (name, "is broken at byte " + std::to_string (reader.position ()) + kDamaged);
  }

  void expect (const ProtobufField &field, ProtobufField::Type type, const std::string &name) const
  {
    if (field.type != type)
      fail (name, std::string ("has another type than it should have") + kDamaged);
  }

  void read_piece (std::string_view bytes)
  {
    if (model_.pieces.size () >= static_cast<size_t> (kMaxTokenId))
      fail ("pieces", "has more than " + std::to_string (kMaxTokenId) + " pieces" + kDamaged);
    const std::string name = "pieces[" + std::to_string (model_.pieces.size ()) + "]";
    SentencePiece piece;
    each_field (bytes, name, [&] (const ProtobufField &field) {
      if (field.number == 1) {
        expect (field, ProtobufField::kBytes, name + ".piece");
        piece.content = field.bytes;
      } else if (field.number == 2) {
        expect (field, ProtobufField::kFixed32, name + ".score");
        piece.score = field.real ();
      } else if (field.number == 3) {
        expect (field, ProtobufField::kVarint, name + ".type");
        if (field.value < 1 || field.value > static_cast<uint64_t> (PieceType::kByte))
          fail (name + ".type", "is " + std::to_string (field.value) + ", expected 1 to 6" + kDamaged);
        piece.type = static_cast<PieceType> (field.value);
      }
    });
    if (piece.content.empty ())
      fail (name + ".piece", std::string ("is empty") + kDamaged);
    model_.pieces.push_back (piece);
  }

  bool flag (const ProtobufField &field, const std::string &name) const
  {
    expect (field, ProtobufField::kVarint, name);
    return field.value != 0;
  }

  void read_trainer (std::string_view bytes)
  {
    each_field (bytes, "trainer_spec", [&] (const ProtobufField &field) {
      switch (field.number) {
      case 3:
        expect (field, ProtobufField::kVarint, "trainer_spec.model_type");
        model_.type = static_cast<ModelType> (field.value);
        if (model_.type != ModelType::kUnigram && model_.type != ModelType::kBpe)
          fail ("trainer_spec.model_type",
                type_name (field.value) + " is not supported; supported are unigram and BPE models: use a "
                                          "tokenizer.json in its place");
        break;
      case 24:
        model_.normalizer.whitespace_as_suffix = flag (field, "trainer_spec.treat_whitespace_as_suffix");
        break;
      case 35:
        model_.byte_fallback = flag (field, "trainer_spec.byte_fallback");
        break;
      case 41:
        expect (field, ProtobufField::kVarint, "trainer_spec.bos_id");
        model_.bos = static_cast<int64_t> (field.value);
        break;
      case 42:
        expect (field, ProtobufField::kVarint, "trainer_spec.eos_id");
        model_.eos = static_cast<int64_t> (field.value);
        break;
      case 44:
        expect (field, ProtobufField::kBytes, "trainer_spec.unk_surface");
        if (!valid_utf8 (field.bytes) || field.bytes.size () > kMaxUnknownSurface)
          fail ("trainer_spec.unk_surface", std::string ("is not valid Unicode, or too long") + kDamaged);
        model_.unknown_surface = field.bytes;
        break;
      default:
        break;
      }
    });
  }

  static std::string type_name (uint64_t type)
  {
    return type == static_cast<uint64_t> (ModelType::kWord)   ? "WORD"
           : type == static_cast<uint64_t> (ModelType::kChar) ? "CHAR"
                                                              : "type " + std::to_string (type);
  }

  void read_normalizer (std::string_view bytes)
  {
    SentencePieceNormalizer &normalizer = model_.normalizer;
    each_field (bytes, "normalizer_spec", [&] (const ProtobufField &field) {
      switch (field.number) {
      case 2:
        expect (field, ProtobufField::kBytes, "normalizer_spec.precompiled_charsmap");
        try {
          normalizer.map = CharsMap (field.bytes);
        } catch (const std::invalid_argument &error) {
          fail ("normalizer_spec.precompiled_charsmap", error.what () + std::string (kDamaged));
        }
        break;
      case 3:
        normalizer.add_dummy_prefix = flag (field, "normalizer_spec.add_dummy_prefix");
        break;
      case 4:
        normalizer.remove_extra_whitespaces = flag (field, "normalizer_spec.remove_extra_whitespaces");
        break;
      case 5:
        normalizer.escape_whitespaces = flag (field, "normalizer_spec.escape_whitespaces");
        break;
      default:
        break;
      }
    });
  }

  void read_denormalizer (std::string_view bytes) const
  {
    each_field (bytes, "denormalizer_spec", [&] (const ProtobufField &field) {
      if (field.number == 2 && !field.bytes.empty ())
        fail ("denormalizer_spec.precompiled_charsmap",
              "is not supported; use a tokenizer.json in place of the SentencePiece model");
    });
  }

  const std::filesystem::path &file_;
  ModelProto model_;
};

/// Puts added tokens into the list of pieces.
void
add_tokens (const std::filesystem::path &file, const std::vector<AddedToken> &added, ModelProto &model)
{
  for (const AddedToken &token : added) {
    if (token.content.empty () || !valid_utf8 (token.content))
      continue;
    const auto id = static_cast<size_t> (token.id);
    if (token.id < 0 || token.id > kMaxTokenId)
      throw LoadError (file, "added tokens", "the id " + std::to_string (token.id) + " is out of range");
    if (id >= model.pieces.size ())
      model.pieces.resize (id + 1, {"", 0, PieceType::kUnused});
    SentencePiece &piece = model.pieces[id];
    const bool keeps_type =
        piece.content == token.content && (piece.type == PieceType::kUnknown || !token.special);
    piece.content = token.content;
    if (!keeps_type)
      piece.type = token.special ? PieceType::kControl : PieceType::kUserDefined;
  }
}

bool
is_control (const ModelProto &model, int64_t id)
{
  return id >= 0 && static_cast<size_t> (id) < model.pieces.size () &&
         model.pieces[static_cast<size_t> (id)].type == PieceType::kControl;
}

std::string_view
text_of (const MappedFile &file)
{
  const auto bytes = file.bytes ();
  if (bytes.size () > kMaxFileBytes)
    throw LoadError (file.path (), "", "is larger than such a file can be; is it the right one?");
  return {reinterpret_cast<const char *> (bytes.data ()), bytes.size ()};
}

} // namespace

std::shared_ptr<const Tokenizer>
load_sentencepiece_tokenizer (const std::filesystem::path &file, const SentencePieceOptions &options)
{
  const MappedFile mapped (file);
  ModelProto model = Reader (file).read (text_of (mapped));
  if (model.pieces.empty ())
    throw LoadError (file, "pieces", std::string ("there are none") + kDamaged);
  add_tokens (file, options.added, model);
  const bool has_bos = is_control (model, model.bos), has_eos = is_control (model, model.eos);

  SentencePieceSource source;
  source.file = file;
  source.field = "pieces";
  source.pieces = std::move (model.pieces);
  source.unigram = model.type == ModelType::kUnigram;
  source.byte_fallback = model.byte_fallback;
  source.normalizer = std::move (model.normalizer);
  source.unknown_text = model.unknown_surface;
  TokenizerParts parts = sentencepiece_parts (std::move (source));
  for (AddedTokenEntry &entry : parts.added)
    for (const AddedToken &token : options.added)
      if (token.id == entry.token.id) {
        entry.token.lstrip = token.lstrip;
        entry.token.rstrip = token.rstrip;
        entry.token.single_word = token.single_word;
      }
  if (has_bos && options.add_bos.value_or (true))
    parts.prefix.push_back (static_cast<int32_t> (model.bos));
  if (has_eos && options.add_eos.value_or (!has_bos))
    parts.suffix.push_back (static_cast<int32_t> (model.eos));
  return Tokenizer::assemble (file, std::move (parts));
}

std::string_view
sentencepiece_model_type (const std::filesystem::path &file)
{
  try {
    const MappedFile mapped (file);
    return Reader (file).read (text_of (mapped)).type == ModelType::kBpe ? "BPE" : "Unigram";
  } catch (const LoadError &) {
    return {};
  }
}

} // namespace millrace
