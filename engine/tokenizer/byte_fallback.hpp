// Tokens "<0x00>" … "<0xFF>" for characters that a vocabulary does not have.
#pragma once

#include "engine/tokenizer/vocabulary.hpp"

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace millrace
{

struct ByteFallback {
  bool enabled = false;
  std::array<int32_t, 256> ids{}; ///< kNoToken where the vocabulary has no such token

  /// Appends the tokens of all bytes of `text`; false, and nothing is appended, unless there are all of them.
  bool append (std::string_view text, std::vector<int32_t> &out) const
  {
    if (!enabled)
      return false;
    for (const char byte : text)
      if (ids[static_cast<unsigned char> (byte)] == kNoToken)
        return false;
    for (const char byte : text)
      out.push_back (ids[static_cast<unsigned char> (byte)]);
    return true;
  }
};

/// The byte that a token's content stands for: "<0x0A>"; none for any other text.
std::optional<unsigned char> byte_of_token (std::string_view content);

/// Looks for the tokens of all bytes.
ByteFallback find_byte_tokens (const Vocabulary &vocabulary);

} // namespace millrace
