// A small model whose packed weights are kept on disk, for tests of what happens to their file.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <stop_token>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace millrace::testing
{

inline constexpr int kInputs = 256, kOutputs = 37; // whole super-blocks; a panel that is not full

// All a model needs, and a matrix that is larger than a part of the work of packing.
inline Program
program ()
{
  Program program;
  program.vocab = 300;
  program.hidden = kInputs;
  program.max_positions = 64;
  program.weights = {{"embedding", 300, kInputs},
                     {"norm", kInputs, 0},
                     {"narrow", kOutputs, kInputs},
                     {"wide", kInputs, kOutputs},
                     {"paired", kInputs, kInputs, 64}};
  program.buffers = {{kInputs}, {kInputs}, {kInputs}, {kInputs, BufferRef::Rows::kOutput}};
  program.kv_layers = {{1, 4}};
  program.ops = {EmbedOp{0, 0},
                 RmsNormOp{0, 1, 1, 1e-6f},
                 LinearOp{1, {{2, kNone, 2, false}}},
                 LinearOp{2, {{3, kNone, 0, true}}},
                 LinearOp{1, {{4, kNone, 0, true}}},
                 SelectOp{0, 3},
                 HiddenOp{3},
                 HeadOp{3, 0}};
  return program;
}

inline std::vector<SyntheticTensor>
tensors (DType dtype, uint32_t seed)
{
  std::mt19937 random (seed);
  std::normal_distribution<float> normal;
  std::vector<SyntheticTensor> result;
  for (const WeightRef &ref : program ().weights) {
    SyntheticTensor tensor{ref.name, ref.shape (), ref.is_matrix () ? dtype : DType::kF32, {}};
    for (int i = 0; i < ref.outputs * std::max (1, ref.inputs); ++i)
      tensor.values.push_back (normal (random));
    result.push_back (std::move (tensor));
  }
  return result;
}

inline std::string
bytes_of (const std::filesystem::path &path)
{
  std::string bytes (std::filesystem::file_size (path), '\0');
  std::ifstream (path, std::ios::binary).read (bytes.data (), static_cast<std::streamsize> (bytes.size ()));
  return bytes;
}

/// In place, and the file's time of change with it.
inline void
change (const std::filesystem::path &path, const std::function<void (int file)> &how)
{
  struct stat info;
  ASSERT_EQ (stat (path.c_str (), &info), 0);
  const int file = open (path.c_str (), O_WRONLY | O_CLOEXEC);
  ASSERT_GE (file, 0);
  how (file);
  const timespec times[2] = {info.st_atim, info.st_mtim};
  EXPECT_EQ (futimens (file, times), 0);
  close (file);
}

class WeightCacheTest : public ::testing::Test
{
protected:
  WeightCacheTest () { write_checkpoint (DType::kF32, 1); }

  void write_checkpoint (DType dtype, uint32_t seed)
  {
    std::filesystem::create_directory (checkpoint ());
    write_safetensors (checkpoint () / "model.safetensors", tensors (dtype, seed));
  }

  std::filesystem::path checkpoint () const { return folder_.path () / "tiny"; }
  std::filesystem::path cache () const { return folder_.path () / "cache"; }

  std::unique_ptr<CompiledModel> compile (const std::filesystem::path &cache,
                                          WeightFormat format = WeightFormat::kAuto,
                                          const std::stop_token &stop = {})
  {
    return create_cpu_backend ({.threads = 2})
        ->compile (program (), WeightFiles::open (checkpoint ()), {format, cache, false, stop});
  }

  /// Logits, and the digest of all weights.
  static std::string result_of (const CompiledModel &model)
  {
    const auto context = model.create_context ({.kv_blocks = {1}, .max_tokens = 4});
    const std::vector<TokenId> ids = {3, 0, 299};
    const std::vector<BlockId> blocks = {0};
    std::vector<float> logits (3 * 300);
    const Slice slice = {.tokens = ids, .blocks = {blocks}, .scored = 3, .logits = logits.data ()};
    context->forward ({&slice, 1});
    return model.kv_identity () +
           std::string (reinterpret_cast<const char *> (logits.data ()), logits.size () * sizeof (float));
  }

  std::vector<std::filesystem::path> files (const std::string &suffix = ".packed") const
  {
    std::vector<std::filesystem::path> found;
    std::error_code error;
    for (const auto &entry : std::filesystem::directory_iterator (cache (), error)) {
      if (entry.path ().extension () == suffix)
        found.push_back (entry.path ());
    }
    return found;
  }

  /// The only one, of a whole compile ().
  std::filesystem::path fill ()
  {
    EXPECT_EQ (compile (cache ())->load_warning (), "");
    EXPECT_EQ (files ().size (), 1u);
    return files ().at (0);
  }

  /// Puts `bytes` in the file's place, with its time of change, and expects that they are refused and told of.
  void expect_refused (const std::filesystem::path &path, const std::string &bytes, const std::string &what)
  {
    struct stat info;
    ASSERT_EQ (stat (path.c_str (), &info), 0);
    std::filesystem::remove (path);
    write_file (path, bytes);
    const timespec times[2] = {info.st_atim, info.st_mtim};
    ASSERT_EQ (utimensat (AT_FDCWD, path.c_str (), times, 0), 0);

    rlimit before;
    getrlimit (RLIMIT_FSIZE, &before);
    const rlimit none = {0, before.rlim_max}; // a new file would cost a thousand times what is tested
    setrlimit (RLIMIT_FSIZE, &none);
    const auto model = compile (cache ());
    setrlimit (RLIMIT_FSIZE, &before);
    ASSERT_NE (model->load_warning ().find ("packed again; "), std::string::npos)
        << what << ": \"" << model->load_warning () << "\"";
    ASSERT_EQ (result_of (*model), expected ()) << what;
  }

  const std::string &expected ()
  {
    if (expected_.empty ())
      expected_ = result_of (*compile ({}));
    return expected_;
  }

  TemporaryFolder folder_;
  std::string expected_;
};

} // namespace millrace::testing
