// Base64 with the standard alphabet, padded. Source: RFC 4648 §4.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace millrace
{

/// None for text that is not Base64.
std::optional<std::string> decode_base64 (std::string_view text);

} // namespace millrace
