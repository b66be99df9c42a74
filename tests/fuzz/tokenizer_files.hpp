// What both fuzz targets of tokenizers have in common: a file of any bytes, and what a tokenizer that was loaded must do.
#pragma once

#include "engine/error.hpp"
#include "engine/tokenizer/detokenizer.hpp"
#include "engine/tokenizer/tokenizer.hpp"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>

#include <sys/mman.h>

namespace millrace::fuzz
{

[[noreturn]] inline void
fail (const char *what)
{
  std::fprintf (stderr, "%s\n", what);
  std::abort ();
}

/// A file in memory with those bytes.
class File
{
public:
  File (const uint8_t *data, size_t size)
      : descriptor_ (memfd_create ("fuzz", 0))
  {
    if (descriptor_ < 0 || write (descriptor_, data, size) != static_cast<ssize_t> (size))
      fail ("no file in memory");
  }
  File (const File &) = delete;
  File &operator= (const File &) = delete;
  ~File () { close (descriptor_); }

  std::string path () const { return "/proc/self/fd/" + std::to_string (descriptor_); }

private:
  int descriptor_;
};

/// Ids are ids of tokens, text is text, and comes in pieces as it comes at once.
inline void
check (const Tokenizer &tokenizer)
{
  for (const char *text : {"the mill's 12345 \n\n  stones",
                           "<s>\u00e9e\u0301 \u2581\u4e2d\u6587 \U0001F642\u00a0\ufb01</s><mask>",
                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", ""})
    for (const bool special : {false, true}) {
      const auto ids = tokenizer.encode (text, {.add_special_tokens = special, .parse_special = special});
      for (const TokenId id : ids)
        if (!tokenizer.is_known (id))
          fail ("an id of no token");
      const std::string decoded = tokenizer.decode (ids, special);
      if (!valid_utf8 (decoded))
        fail ("text that is none");
      Detokenizer detokenizer (tokenizer, special);
      std::string pieces;
      for (const TokenId id : ids) {
        detokenizer.push (id, pieces);
        if (!valid_utf8 (pieces))
          fail ("a piece of text that is none");
      }
      detokenizer.finish (pieces);
      if (pieces != decoded)
        fail ("pieces that are another text");
    }
}

/// Loads, and takes one clear error for an answer.
template <typename Load>
void
load_and_check (const uint8_t *data, size_t size, const Load &load)
{
  const File file (data, size);
  try {
    check (*load (file.path ()));
  } catch (const LoadError &error) {
    if (std::string (error.what ()).find (file.path ()) == std::string::npos)
      fail ("an error without the file's name");
  }
}

} // namespace millrace::fuzz
