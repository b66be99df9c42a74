// How fast texts become tokens, on one core.
//
//   tokenizer [--tokenizer FILE] [--text FILE]... [--runs N]
//
// FILE is a tokenizer.json or tokenizer.model (default: the demo model's). Without --text three texts of 1 MB are made: prose (the
// project's documentation), code (its engine) and a mixture of scripts (random words of twelve languages); shorter material is
// repeated. Prints the median over N (default 15) runs of each, in MB for each
// second of processor time, how many tokens it gives, and the median of reading the
// tokens back. Each run is a call of its own that remembers nothing of the one before.

#include "bench/measure.hpp"

#include "engine/tokenizer/tokenizer.hpp"
#include "engine/tokenizer/tokenizer_sentencepiece.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <random>
#include <string>
#include <vector>

namespace fs = std::filesystem;
using namespace millrace;

namespace
{

constexpr size_t kTextBytes = 1'000'000;

std::string
contents_of (const fs::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

/// The files below `folder` with that extension, in the order of their names, cut to or repeated up to 1 MB.
std::string
text_of_files (const fs::path &folder, const char *extension)
{
  std::vector<fs::path> files;
  for (const auto &entry : fs::recursive_directory_iterator (folder))
    if (entry.path ().extension () == extension)
      files.push_back (entry.path ());
  std::sort (files.begin (), files.end ());
  std::string text;
  for (size_t i = 0; !files.empty () && text.size () < kTextBytes; i++)
    text += contents_of (files[i % files.size ()]);
  return text;
}

/// Words of several scripts with letters drawn at random, so that few of them come twice.
std::string
mixed_text ()
{
  struct Script {
    char32_t first, last;
    int longest;
    const char *after;
  };
  constexpr Script kScripts[] = {{'a', 'z', 9, " "},
                                 {'a', 'z', 7, " "},
                                 {'a', 'z', 5, ", "},
                                 {0xE0, 0xF6, 6, " "},
                                 {0x3B1, 0x3C9, 8, " "},
                                 {0x430, 0x44F, 9, " "},
                                 {0x5D0, 0x5EA, 6, " "},
                                 {0x627, 0x64A, 7, " "},
                                 {0x915, 0x939, 6, " "},
                                 {0x3042, 0x3093, 5, ""},
                                 {0x4E00, 0x5200, 6, "\u3002"},
                                 {0xAC00, 0xB000, 4, " "}};
  std::mt19937 random (1);
  std::string text;
  const auto append = [&text] (char32_t c) {
    if (c < 0x80) {
      text += static_cast<char> (c);
    } else if (c < 0x800) {
      text += {static_cast<char> (0xC0 | c >> 6), static_cast<char> (0x80 | (c & 0x3F))};
    } else {
      text += {static_cast<char> (0xE0 | c >> 12), static_cast<char> (0x80 | (c >> 6 & 0x3F)),
               static_cast<char> (0x80 | (c & 0x3F))};
    }
  };
  while (text.size () < kTextBytes) {
    const Script &script = kScripts[random () % std::size (kScripts)];
    for (auto n = 1 + static_cast<int> (random () % static_cast<unsigned> (script.longest)); n > 0; n--)
      append (script.first + random () % (script.last - script.first + 1));
    text += random () % 16 ? script.after : "\n";
  }
  return text;
}

/// Of this thread, so that what else runs on the machine counts for less.
double
processor_seconds ()
{
  timespec time{};
  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double> (time.tv_sec) + static_cast<double> (time.tv_nsec) * 1e-9;
}

void
measure (const Tokenizer &tokenizer, const char *name, const std::string &text, int runs)
{
  std::vector<double> encoding, decoding;
  std::vector<TokenId> ids;
  for (int run = 0; run < runs; run++) {
    const double begin = processor_seconds ();
    ids = tokenizer.encode (text);
    const double middle = processor_seconds ();
    const std::string decoded = tokenizer.decode (ids);
    encoding.push_back (middle - begin);
    decoding.push_back (processor_seconds () - middle);
  }
  const double megabytes = static_cast<double> (text.size ()) / 1e6;
  std::printf ("%-28s %8.2f MB %9zu tokens   encode %7.1f MB/s   decode %7.1f MB/s\n", name, megabytes,
               ids.size (), megabytes / bench::median (encoding), megabytes / bench::median (decoding));
}

} // namespace

int
main (int argc, char **argv)
{
  const fs::path source = MILLRACE_SOURCE_DIR;
  fs::path file = source / "models/demo/tokenizer.json";
  std::vector<fs::path> texts;
  int runs = 15;
  for (int i = 1; i < argc; i++) {
    const std::string argument = argv[i];
    if (i + 1 < argc && argument == "--tokenizer")
      file = argv[++i];
    else if (i + 1 < argc && argument == "--text")
      texts.emplace_back (argv[++i]);
    else if (i + 1 < argc && argument == "--runs")
      runs = std::max (1, std::atoi (argv[++i]));
    else {
      std::fprintf (stderr, "usage: tokenizer [--tokenizer FILE] [--text FILE]... [--runs N]\n");
      return 2;
    }
  }
  try {
    const auto tokenizer =
        file.extension () == ".model" ? load_sentencepiece_tokenizer (file) : Tokenizer::load (file);
    for (const fs::path &text : texts)
      measure (*tokenizer, text.filename ().c_str (), contents_of (text), runs);
    if (texts.empty ()) {
      measure (*tokenizer, "prose", text_of_files (source / "docs", ".md"), runs);
      measure (*tokenizer, "code", text_of_files (source / "engine", ".cpp"), runs);
      measure (*tokenizer, "mixed scripts", mixed_text (), runs);
    }
  } catch (const std::exception &error) {
    std::fprintf (stderr, "%s\n", error.what ());
    return 1;
  }
  return 0;
}
