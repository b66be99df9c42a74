#include "engine/chat/reasoning.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr std::string_view kOpen = "<think>";
constexpr std::string_view kClose = "</think>";
constexpr std::string_view kSpace = " \t\n\r\f\v";

/// How much of the end of `text` could still become `tag`.
size_t
open_end (std::string_view text, std::string_view tag)
{
  for (size_t length = std::min (text.size (), tag.size () - 1); length > 0; --length) {
    if (text.substr (text.size () - length) == tag.substr (0, length))
      return length;
  }
  return 0;
}

} // namespace

ReasoningSplitter::ReasoningSplitter (bool inside)
    : state_ (inside ? State::kInside : State::kBefore)
    , skip_space_ (inside)
{
}

void
ReasoningSplitter::push (std::string_view text, std::string &reasoning, std::string &content)
{
  if (state_ == State::kContent) {
    content += text;
    return;
  }
  held_ += text;
  if (state_ == State::kBefore) {
    const size_t begin = std::min (held_.find_first_not_of (kSpace), held_.size ());
    const std::string_view start = std::string_view (held_).substr (begin, kOpen.size ());
    if (start == kOpen) {
      held_.erase (0, begin + kOpen.size ());
      state_ = State::kInside;
      skip_space_ = true;
    } else if (start == kOpen.substr (0, start.size ())) {
      return; // may become the tag
    } else {
      content += held_;
      held_.clear ();
      state_ = State::kContent;
      return;
    }
  }
  if (state_ == State::kInside) {
    if (skip_space_) {
      held_.erase (0, std::min (held_.find_first_not_of (kSpace), held_.size ()));
      skip_space_ = held_.empty ();
    }
    const size_t close = held_.find (kClose);
    if (close == std::string::npos) {
      const size_t certain = held_.size () - open_end (held_, kClose);
      reasoning.append (held_, 0, certain);
      held_.erase (0, certain);
      return;
    }
    reasoning.append (held_, 0, close);
    held_.erase (0, close + kClose.size ());
    state_ = State::kAfterTag;
  }
  const size_t begin = held_.find_first_not_of (kSpace);
  if (begin != std::string::npos) {
    content.append (held_, begin);
    state_ = State::kContent;
  }
  held_.clear ();
}

void
ReasoningSplitter::finish (std::string &reasoning, std::string &content)
{
  (state_ == State::kInside ? reasoning : content) += held_;
  held_.clear ();
}

} // namespace millrace
