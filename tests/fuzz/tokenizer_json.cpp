// Fuzz target: any bytes as a tokenizer.json. README.md has the commands; tests/engine_tokenizer_corpus.cpp runs the corpus in
// every build.
#include "tests/fuzz/tokenizer_files.hpp"

extern "C" int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  millrace::fuzz::load_and_check (data, size,
                                  [] (const std::string &path) { return millrace::Tokenizer::load (path); });
  return 0;
}
