// Fuzz target: any bytes as a model's files. The first byte says what they are:
//   's'  the model.safetensors of a folder whose config.json is that of a small llama
//   'c'  the config.json of a folder that has that llama's weights
//   'm'  both: 2 bytes, the length of config.json (low byte first), config.json, model.safetensors
//   'g'  a GGUF file
// The model is opened as everywhere, weights are packed when they need little memory, and a few tokens are computed. What is
// wrong must be a LoadError that names the file; nothing else may be thrown. README.md has the commands;
// tests/engine_model_corpus.cpp runs the corpus in every build.
#include "engine/error.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/model_files.hpp"
#include "engine/model/tensor_names.hpp"
#include "tests/model_runner.hpp"
#include "tests/synthetic_model.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <unistd.h>

namespace
{

using namespace millrace;
namespace fs = std::filesystem;
namespace helpers = millrace::testing;

constexpr uint64_t kMostWeightBytes = 16u << 20; ///< of models that are packed
const helpers::SyntheticModel kLlama{.vocab = 13,
                                     .hidden = 8,
                                     .layers = 1,
                                     .heads = 2,
                                     .kv_heads = 1,
                                     .head_dim = 4,
                                     .intermediate = 8,
                                     .max_positions = 64,
                                     .biases = false,
                                     .dtype = DType::kF16};

[[noreturn]] void
fail (const char *what, const std::string &text)
{
  std::fprintf (stderr, "%s: %s\n", what, text.c_str ());
  std::abort ();
}

/// In memory where there is such a file system.
class Folder
{
public:
  Folder ()
      : path_ ((fs::exists ("/dev/shm") ? fs::path ("/dev/shm") : fs::temp_directory_path ()) /
               ("millrace-fuzz-" + std::to_string (getpid ())))
  {
    fs::create_directories (path_);
  }
  ~Folder ()
  {
    std::error_code ignored;
    fs::remove_all (path_, ignored);
  }
  const fs::path &path () const { return path_; }

private:
  fs::path path_;
};

/// What Model::open () does, but that big models are not packed.
void
open_and_run (const fs::path &path)
{
  const auto files = open_model_files (path);
  helpers::RunnableModel model;
  model.spec = files->architecture ();
  const GenerationConfig generation = files->generation ();
  files->end_of_sequence_ids (model.spec, generation);
  files->chat_template ();
  files->tokenizer (model.spec.vocab);
  const WeightFiles &weights = files->weights ();
  const Program program = build_program (model.spec, weights);
  require_tensors (program, weights);
  unread_tensors (program, model.spec, weights);
  const auto backend = create_cpu_backend ({.threads = 1});
  uint64_t bytes = 0;
  for (const WeightMemory &memory : backend->plan (program, weights, WeightFormat::kAuto))
    bytes += memory.bytes;
  for (const KvGroup &group : backend->kv_layout (program, KvType::kF32))
    bytes += group.block_bytes;
  if (bytes > kMostWeightBytes)
    return;
  model.compiled = backend->compile (program, weights, {});
  const std::vector<TokenId> tokens{0, model.spec.vocab - 1, model.spec.vocab / 2};
  const int count = std::min (3, model.spec.max_positions);
  helpers::SequenceRunner runner (model, count, count);
  runner.run (std::span (tokens).first (static_cast<size_t> (count)), count);
}

void
check (const fs::path &folder, const fs::path &path)
{
  try {
    open_and_run (path);
  } catch (const LoadError &error) {
    if (!error.file.string ().starts_with (folder.string ()) || std::string (error.what ()).size () < 20)
      fail ("not a whole error", error.what ());
  }
}

} // namespace

extern "C" int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const Folder folder;
  static const bool written = [] {
    for (const char *name : {"s", "c", "m"})
      fs::create_directories (folder.path () / name);
    helpers::write_model (folder.path () / "s", kLlama, 3);
    helpers::write_model (folder.path () / "c", kLlama, 3);
    return true;
  }();
  if (!written || size == 0)
    return 0;
  std::string bytes (reinterpret_cast<const char *> (data) + 1, size - 1);
  switch (data[0]) {
  case 's':
    helpers::write_file (folder.path () / "s" / "model.safetensors", bytes);
    check (folder.path (), folder.path () / "s");
    break;
  case 'c':
    helpers::write_file (folder.path () / "c" / "config.json", bytes);
    check (folder.path (), folder.path () / "c");
    break;
  case 'm':
    if (size >= 3) {
      const size_t length = std::min (bytes.size () - 2, data[1] + size_t{256} * data[2]);
      helpers::write_file (folder.path () / "m" / "config.json", bytes.substr (2, length));
      helpers::write_file (folder.path () / "m" / "model.safetensors", bytes.substr (2 + length));
      check (folder.path (), folder.path () / "m");
    }
    break;
  case 'g':
    helpers::write_file (folder.path () / "model.gguf", bytes);
    check (folder.path (), folder.path () / "model.gguf");
    break;
  default:
    break;
  }
  return 0;
}
