// An answer's text → reasoning (what stands in <think>…</think>) and content, as it grows.
//
// A pure function of the text, not of how it was cut: bytes that may be the beginning of a tag are held back. One
// thread.
#pragma once

#include <string>
#include <string_view>

namespace millrace
{

/// Whether a rendered prompt ends inside <think>, so that the answer begins with reasoning.
inline bool
ends_thinking (std::string_view prompt)
{
  const size_t end = prompt.find_last_not_of (" \t\r\n");
  return end != prompt.npos && prompt.substr (0, end + 1).ends_with ("<think>");
}

class ReasoningSplitter
{
public:
  /// `inside`: the prompt has opened the tag already.
  explicit ReasoningSplitter (bool inside);

  /// Appends what is certain. White space right after either tag belongs to neither part. Only a tag at the beginning
  /// of the answer (after white space) opens reasoning: one later is content.
  void push (std::string_view text, std::string &reasoning, std::string &content);
  /// No more text comes: what was held back goes where it belongs.
  void finish (std::string &reasoning, std::string &content);

private:
  enum class State { kBefore, kInside, kAfterTag, kContent } state_;
  bool skip_space_ = false;
  std::string held_;
};

} // namespace millrace
