#include "engine/tokenizer/regex.hpp"

#include "engine/tokenizer/regex_translation.hpp"
#include "engine/tokenizer/utf8.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

namespace millrace
{

namespace
{

// A run of spaces is walked once and given back once by common patterns: a few steps for each byte.
constexpr uint64_t kLeastSteps = 1'000'000;
constexpr uint64_t kStepsPerByte = 4;
constexpr uint32_t kProbeSteps = 200'000;
constexpr uint32_t kHeapKib = 256 * 1024; // of the interpreter, which takes over when the JIT's stack is full
constexpr size_t kMaxPattern = 64 * 1024;

template <auto function>
struct Free {
  template <typename T>
  void operator() (T *pointer) const
  {
    function (pointer);
  }
};

PCRE2_SPTR
subject (std::string_view text)
{
  return reinterpret_cast<PCRE2_SPTR> (text.data () ? text.data () : "");
}

} // namespace

struct Regex::Code {
  std::unique_ptr<pcre2_code, Free<pcre2_code_free>> code;
  bool jit = false;
};

struct Regex::Scratch::Memory {
  std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>> data;
  std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>> context;
  uint32_t step_limit = 0; ///< 0: by the text's length
};

Regex::Scratch::Scratch ()
    : memory_ (std::make_unique<Memory> ())
{
  // One pair is enough for any pattern: only the whole match is wanted.
  memory_->data.reset (pcre2_match_data_create (1, nullptr));
  memory_->context.reset (pcre2_match_context_create (nullptr));
  if (!memory_->data || !memory_->context)
    throw std::bad_alloc ();
  pcre2_set_heap_limit (memory_->context.get (), kHeapKib);
}

Regex::Scratch::~Scratch () = default;
Regex::Regex (std::unique_ptr<Code> code)
    : code_ (std::move (code))
{
}
Regex::Regex (Regex &&) noexcept = default;
Regex &Regex::operator= (Regex &&) noexcept = default;
Regex::~Regex () = default;

Regex
Regex::build (std::string_view pattern, unsigned options)
{
  if (pattern.size () > kMaxPattern)
    throw std::invalid_argument ("the pattern is longer than 65536 bytes");

  const std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>> context (
      pcre2_compile_context_create (nullptr));
  if (!context)
    throw std::bad_alloc ();
  pcre2_set_newline (context.get (), PCRE2_NEWLINE_LF);

  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code> ();
  code->code.reset (
      pcre2_compile (subject (pattern), pattern.size (), options, &error, &offset, context.get ()));
  if (!code->code) {
    char message[256] = "";
    pcre2_get_error_message (error, reinterpret_cast<PCRE2_UCHAR *> (message), sizeof message);
    const size_t shown = std::min<size_t> (pattern.size (), 200);
    throw std::invalid_argument ("the pattern does not compile: " + std::string (message) + " at offset " +
                                 std::to_string (offset) + " of " +
                                 utf8::to_valid (pattern.substr (0, shown)));
  }
  // Without a JIT (an unsupported machine, no executable memory) the interpreter gives the same matches.
  code->jit = pcre2_jit_compile (code->code.get (), PCRE2_JIT_COMPLETE) == 0;
  return Regex (std::move (code));
}

Regex
Regex::literal (std::string_view text)
{
  return build (text, PCRE2_UTF | PCRE2_LITERAL);
}

Regex
Regex::compile (std::string_view pattern)
{
  if (pattern.size () > kMaxPattern)
    throw std::invalid_argument ("the pattern is longer than 65536 bytes");
  Regex regex =
      build (translate_regex (pattern), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);

  // Exponential backtracking shows itself on runs of one character.
  Scratch scratch;
  scratch.memory_->step_limit = kProbeSteps;
  std::vector<Piece> pieces;
  for (std::string_view unit : {"a", " ", "7", "!", "\n", "aA", "a ", "\u4E2D"}) {
    std::string probe;
    while (probe.size () < 256)
      probe += unit;
    for (std::string_view end : {"", "\x01"})
      if (!regex.find (probe + std::string (end), scratch, pieces))
        throw std::invalid_argument ("the pattern needs too many steps (nested repetition); simplify it");
  }
  return regex;
}

void
Regex::find_all (std::string_view text, Scratch &scratch, std::vector<Piece> &pieces) const
{
  find (text, scratch, pieces);
}

bool
Regex::find (std::string_view text, Scratch &scratch, std::vector<Piece> &pieces) const
{
  if (text.empty ()) {
    pieces.push_back ({0, 0, false});
    return true;
  }
  Scratch::Memory &memory = *scratch.memory_;
  const uint64_t steps = memory.step_limit ? memory.step_limit : kLeastSteps + kStepsPerByte * text.size ();
  pcre2_set_match_limit (memory.context.get (), static_cast<uint32_t> (std::min<uint64_t> (
                                                    steps, std::numeric_limits<uint32_t>::max ())));
  const PCRE2_SIZE *match = pcre2_get_ovector_pointer (memory.data.get ());

  constexpr size_t kNowhere = std::numeric_limits<size_t>::max ();
  size_t from = 0, covered = 0, last_end = kNowhere;
  while (from <= text.size ()) {
    int result = PCRE2_ERROR_JIT_STACKLIMIT;
    if (code_->jit)
      result = pcre2_jit_match (code_->code.get (), subject (text), text.size (), from, 0, memory.data.get (),
                                memory.context.get ());
    if (result == PCRE2_ERROR_JIT_STACKLIMIT)
      result = pcre2_match (code_->code.get (), subject (text), text.size (), from,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, memory.data.get (), memory.context.get ());
    if (result < 0) {
      if (covered < text.size ())
        pieces.push_back ({covered, text.size (), false});
      return result == PCRE2_ERROR_NOMATCH;
    }
    const size_t begin = match[0], end = match[1];
    // \K inside a lookaround can put the match before the start or backwards.
    if (begin < covered || end < begin) {
      if (covered < text.size ())
        pieces.push_back ({covered, text.size (), false});
      return true;
    }
    if (begin == end && end == last_end) {
      from += from < text.size () ? utf8::sequence_size (static_cast<unsigned char> (text[from])) : 1;
      continue;
    }
    if (covered < begin)
      pieces.push_back ({covered, begin, false});
    pieces.push_back ({begin, end, true});
    covered = from = last_end = end;
  }
  if (covered < text.size ())
    pieces.push_back ({covered, text.size (), false});
  return true;
}

} // namespace millrace
