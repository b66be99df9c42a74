// Fuzz target: any bytes as a tokenizer.model. README.md has the commands; tests/engine_tokenizer_corpus.cpp runs the corpus in
// every build.
#include "tests/fuzz/tokenizer_files.hpp"

#include "engine/tokenizer/tokenizer_sentencepiece.hpp"

extern "C" int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  millrace::fuzz::load_and_check (
      data, size, [] (const std::string &path) { return millrace::load_sentencepiece_tokenizer (path); });
  return 0;
}
