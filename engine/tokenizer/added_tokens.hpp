// Finds added tokens ("<|im_start|>") in a text before anything else looks at it.
//
// Leftmost-longest over all contents by a trie: O(text × longest content) at worst, one table look-up per
// byte where no content starts. Immutable. Source: AddedVocabulary of the reference `tokenizers` library,
// including what it does when stripped white space and matches overlap.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct AddedToken {
  int32_t id = 0;
  std::string content; ///< as matched: of a normalized token, the normalized content
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool special = false;
};

class AddedTokenMatcher
{
public:
  /// A part of the text: an added token (id ≥ 0) or ordinary text.
  struct Part {
    size_t begin = 0;
    size_t end = 0;
    int32_t id = -1;
  };

  AddedTokenMatcher () = default;
  /// Contents must be distinct and not empty.
  explicit AddedTokenMatcher (std::vector<AddedToken> tokens);

  bool empty () const { return tokens_.empty (); }
  /// Appends the parts of `text`; without `parse_special`, special tokens are left in ordinary text.
  void split (std::string_view text, bool parse_special, std::vector<Part> &parts) const;

private:
  struct Node {
    uint32_t first_edge = 0;
    uint32_t edge_count = 0;
    int32_t token = -1; ///< index into tokens_
  };
  struct Edge {
    unsigned char byte;
    uint32_t node;
  };
  struct Found {
    size_t begin;
    size_t end;
    int32_t token;
  };
  bool find (std::string_view text, size_t from, Found &found) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;
  std::vector<Edge> edges_;
  std::array<uint32_t, 256> roots_{}; ///< node after the first byte; 0: no content starts with it
};

} // namespace millrace
