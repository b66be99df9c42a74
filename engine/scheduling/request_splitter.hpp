// Cuts a stream of bytes into prompts.
//
// Pieces arrive in any size, also cut in the middle of a character; what comes out does not depend on it.
// One thread. A prompt that grows past the limit is reported as too long and skipped up to its boundary.
#pragma once

#include "engine/tensor/thread_pool.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace
{

enum class Boundary : uint8_t {
  kBuffer, ///< each piece is a prompt
  kLine,   ///< each line that is not empty; "\n" or "\r\n" is not part of it
  kEnd,    ///< everything up to the end of the stream; one final newline is not part of it
};

class RequestSplitter
{
public:
  struct Prompt {
    std::string_view text;
    bool too_long = false; ///< `text` holds only its first bytes
  };
  using Emit = FunctionRef<void (const Prompt &)>;

  explicit RequestSplitter (Boundary boundary, size_t limit_bytes);

  void push (std::string_view bytes, Emit emit);
  /// End of the stream: emits what is left. With kEnd that is a prompt even when empty.
  void finish (Emit emit);
  /// Whether bytes wait for their boundary.
  bool pending () const { return !held_.empty () || too_long_; }

private:
  void emit_line (Emit emit);
  void append (std::string_view bytes);

  Boundary boundary_;
  size_t limit_;
  std::string held_;
  bool too_long_ = false;
};

} // namespace millrace
