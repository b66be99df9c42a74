// A compiled pattern of a tokenizer, matched by PCRE2 (JIT-compiled where the machine has one).
//
// Patterns come from files, texts from requests: every attempt has a step limit that grows with the text, a
// pattern that needs too many steps on plain probe texts is refused when compiled, and when a limit is hit
// while matching, the rest of the text is one unmatched piece. Immutable; a scratch belongs to one thread.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace millrace
{

/// A piece of a text and whether the pattern matched it. Pieces of a text are contiguous and cover it.
struct Piece {
  size_t begin = 0;
  size_t end = 0;
  bool matched = false;
};

class Regex
{
public:
  /// What matching needs to write to.
  class Scratch
  {
  public:
    Scratch ();
    ~Scratch ();
    Scratch (const Scratch &) = delete;
    Scratch &operator= (const Scratch &) = delete;

  private:
    friend class Regex;
    struct Memory;
    std::unique_ptr<Memory> memory_;
  };

  /// A pattern in Oniguruma's syntax. Throws std::invalid_argument saying what is wrong with it.
  static Regex compile (std::string_view pattern);
  /// Matches `text` itself.
  static Regex literal (std::string_view text);

  Regex (Regex &&) noexcept;
  Regex &operator= (Regex &&) noexcept;
  ~Regex ();

  /// Appends the pieces of `text`, which must be valid UTF-8. An empty text is one empty unmatched piece. An
  /// empty match is a piece of its own, except right after another match.
  void find_all (std::string_view text, Scratch &scratch, std::vector<Piece> &pieces) const;

private:
  struct Code;
  explicit Regex (std::unique_ptr<Code> code);
  /// False when a limit was hit.
  bool find (std::string_view text, Scratch &scratch, std::vector<Piece> &pieces) const;
  static Regex build (std::string_view pattern, unsigned options);

  std::unique_ptr<Code> code_;
};

} // namespace millrace
