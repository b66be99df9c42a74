// The tokenizer of a GGUF file, read by the tests of the tokenizer folder, which does not know that format.
//
// As little of the format as it takes: metadata of trusted files.
#pragma once

#include "engine/tensor/mapped_file.hpp"
#include "engine/tokenizer/tokenizer_gguf.hpp"

#include <cstring>
#include <map>
#include <string>
#include <vector>

namespace millrace::testing
{

/// The tokenizer.ggml.… keys of a file; views stay valid as long as it does.
class GgufVocabularyFile
{
public:
  explicit GgufVocabularyFile (const std::filesystem::path &file)
      : file_ (file)
  {
    at_ = 4 + 4 + 8; // magic, version, count of tensors
    const auto count = number<uint64_t> ();
    for (uint64_t i = 0; i < count; ++i) {
      const std::string key (text ());
      const auto type = number<uint32_t> ();
      if (type == kArray)
        read_array (key);
      else if (type == kString)
        texts_[key] = text ();
      else
        skip_or_keep (key, type);
    }
  }

  GgufVocabulary vocabulary () const
  {
    GgufVocabulary result;
    result.model = texts_.at ("tokenizer.ggml.model");
    if (const auto pre = texts_.find ("tokenizer.ggml.pre"); pre != texts_.end ())
      result.pre = pre->second;
    result.tokens = tokens_;
    result.merges = merges_;
    result.types = types_;
    result.bos = number_or ("tokenizer.ggml.bos_token_id", -1);
    result.eos = number_or ("tokenizer.ggml.eos_token_id", -1);
    result.unknown = number_or ("tokenizer.ggml.unknown_token_id", -1);
    result.separator = number_or ("tokenizer.ggml.seperator_token_id", -1);
    result.scores = scores_;
    result.precompiled_charsmap = chars_map_;
    result.add_bos = flag ("tokenizer.ggml.add_bos_token");
    result.add_eos = flag ("tokenizer.ggml.add_eos_token");
    result.add_space_prefix = flag ("tokenizer.ggml.add_space_prefix");
    result.remove_extra_whitespaces = flag ("tokenizer.ggml.remove_extra_whitespaces");
    return result;
  }

private:
  static constexpr uint32_t kString = 8, kArray = 9;

  static size_t bytes_of (uint32_t type)
  {
    static constexpr size_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return kBytes[type];
  }
  template <typename T>
  T number ()
  {
    T value;
    std::memcpy (&value, file_.bytes ().data () + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string_view text ()
  {
    const auto size = number<uint64_t> ();
    at_ += size;
    return {reinterpret_cast<const char *> (file_.bytes ().data ()) + at_ - size, size};
  }
  void skip_or_keep (const std::string &key, uint32_t type)
  {
    uint64_t bits = 0;
    std::memcpy (&bits, file_.bytes ().data () + at_, bytes_of (type));
    at_ += bytes_of (type);
    numbers_[key] = bits;
  }
  void read_array (const std::string &key)
  {
    const auto type = number<uint32_t> ();
    const auto count = number<uint64_t> ();
    for (uint64_t i = 0; i < count; ++i) {
      if (type == kString)
        (key == "tokenizer.ggml.tokens" ? tokens_ : merges_).push_back (text ());
      else if (key == "tokenizer.ggml.token_type")
        types_.push_back (number<int32_t> ());
      else if (key == "tokenizer.ggml.scores")
        scores_.push_back (number<float> ());
      else if (key == "tokenizer.ggml.precompiled_charsmap")
        chars_map_ += number<char> ();
      else
        at_ += bytes_of (type);
    }
  }
  TokenId number_or (const std::string &key, TokenId fallback) const
  {
    const auto found = numbers_.find (key);
    return found == numbers_.end () ? fallback : static_cast<TokenId> (found->second);
  }

  std::optional<bool> flag (const char *key) const
  {
    const auto found = numbers_.find (key);
    return found == numbers_.end () ? std::nullopt : std::optional (found->second != 0);
  }

  MappedFile file_;
  size_t at_ = 0;
  std::map<std::string, std::string_view> texts_;
  std::map<std::string, uint64_t> numbers_;
  std::vector<std::string_view> tokens_, merges_;
  std::vector<int32_t> types_;
  std::vector<float> scores_;
  std::string chars_map_;
};

} // namespace millrace::testing
