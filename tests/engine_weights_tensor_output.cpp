// labels: unit
//
// Tensors on their way into files: the same bytes from any number of threads, nothing left of what was not finished.
#include "engine/weights/quantized_blocks.hpp"
#include "engine/weights/safetensors_layout.hpp"
#include "engine/weights/tensor_output.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/seed.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <csignal>
#include <cstring>
#include <iterator>
#include <random>
#include <sys/resource.h>
#include <system_error>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

std::string
contents (const fs::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

class TensorOutputTest : public ::testing::Test
{
protected:
  static constexpr int64_t kRows = 700, kColumns = 1024; ///< several parts

  void SetUp () override
  {
    std::mt19937 random (test_seed ());
    std::normal_distribution<float> normal;
    SyntheticTensor tensor{"a.weight", {kRows, kColumns}, DType::kF16, {}};
    for (int64_t i = 0; i < kRows * kColumns; ++i)
      tensor.values.push_back (f16_to_f32 (f32_to_f16 (normal (random))));
    values_ = tensor.values;
    write_safetensors (folder_.path () / "model.safetensors", {tensor});
    files_.emplace (WeightFiles::open (folder_.path ()));
  }

  TensorOutput tensor (const TensorEncoding &encoding) const
  {
    TensorOutput tensor;
    tensor.name = "a.weight";
    tensor.encoding = encoding;
    tensor.values = float_rows (*files_, "a.weight");
    return tensor;
  }

  size_t count_of_files () const
  {
    return static_cast<size_t> (std::distance (fs::directory_iterator (folder_.path ()), {}));
  }

  TemporaryFolder folder_;
  std::vector<float> values_;
  std::optional<WeightFiles> files_;
};

TEST_F (TensorOutputTest, bytes_do_not_depend_on_threads)
{
  for (const TensorEncoding &encoding :
       {TensorEncoding{DType::kF32, {}}, TensorEncoding{DType::kBF16, {}}, TensorEncoding{DType::kQ8_0, {}},
        TensorEncoding{DType::kQ6K, {}}, TensorEncoding{DType::kBF16, AffineCodes{3, 32}}}) {
    std::string first;
    for (const int threads : {1, 2, 5}) {
      const fs::path path = folder_.path () / "out";
      OutputFile file (path);
      TensorOutput output = tensor (encoding);
      const auto data = encoding.row_bytes (kColumns) * kRows,
                 scales = encoding.scale_row_bytes (kColumns) * kRows;
      output.data = {&file, 3};
      output.scales = {&file, 3 + data};
      output.biases = {&file, 3 + data + scales};
      ThreadPool pool (threads);
      write_tensors ({&output, 1}, pool, {});
      file.commit ();
      const std::string bytes = contents (path);
      EXPECT_EQ (bytes.size (), 3 + data + 2 * scales);
      if (threads == 1)
        first = bytes;
      EXPECT_EQ (bytes, first) << threads << " threads";
    }
    if (encoding.type == DType::kF32) {
      EXPECT_EQ (std::memcmp (first.data () + 3, values_.data (), values_.size () * 4), 0);
    }
    if (is_block_type (encoding.type)) {
      std::vector<std::byte> row (encoding.row_bytes (kColumns));
      quantize_row (encoding.type, values_.data () + (kRows - 1) * kColumns, kColumns, row.data ());
      EXPECT_EQ (std::memcmp (first.data () + 3 + (kRows - 1) * row.size (), row.data (), row.size ()), 0);
    }
  }
}

TEST_F (TensorOutputTest, progress_reaches_the_end_and_can_be_stopped)
{
  const size_t before = count_of_files ();
  {
    OutputFile file (folder_.path () / "out");
    TensorOutput output = tensor ({DType::kF32, {}});
    output.data.file = &file;
    ThreadPool pool (2);
    std::atomic<uint64_t> most = 0, total_seen = 0;
    write_tensors ({&output, 1}, pool,
                   {.report = [&] (uint64_t done, uint64_t total, const std::string &name) {
                     EXPECT_EQ (name, "a.weight");
                     total_seen = total;
                     for (uint64_t seen = most; seen < done && !most.compare_exchange_weak (seen, done);)
                       ;
                   }});
    EXPECT_EQ (most, total_seen);
    EXPECT_EQ (most, static_cast<uint64_t> (kRows * kColumns));
    std::atomic<bool> cancelled = false;
    const OutputProgress progress{
        .report = [&] (uint64_t, uint64_t, const std::string &) { cancelled = true; },
        .cancelled = &cancelled};
    EXPECT_THROW (write_tensors ({&output, 1}, pool, progress), Cancelled);
    EXPECT_EQ (count_of_files (), before + 1);
  }
  EXPECT_EQ (count_of_files (), before) << "a file that was not finished is left";
}

TEST_F (TensorOutputTest, a_disk_that_is_full_is_an_error_that_names_the_file)
{
  OutputFile file (folder_.path () / "out");
  TensorOutput output = tensor ({DType::kF32, {}});
  output.data.file = &file;
  ThreadPool pool (2);
  std::signal (SIGXFSZ, SIG_IGN);
  rlimit old = {};
  getrlimit (RLIMIT_FSIZE, &old);
  const rlimit small{1 << 20, old.rlim_max};
  setrlimit (RLIMIT_FSIZE, &small);
  try {
    write_tensors ({&output, 1}, pool, {});
    ADD_FAILURE () << "written beyond the limit";
  } catch (const std::system_error &error) {
    EXPECT_NE (std::string (error.what ()).find ("out"), std::string::npos) << error.what ();
  }
  setrlimit (RLIMIT_FSIZE, &old);
}

TEST_F (TensorOutputTest, a_file_has_its_name_when_it_is_whole)
{
  const fs::path path = folder_.path () / "out";
  write_file (path, "old");
  {
    OutputFile file (path);
    file.write (0, std::as_bytes (std::span ("new", 3)));
    EXPECT_EQ (contents (path), "old");
  }
  EXPECT_EQ (contents (path), "old");
  OutputFile file (path);
  file.write (2, std::as_bytes (std::span ("new", 3)));
  file.resize (6);
  file.commit ();
  EXPECT_EQ (contents (path), std::string ("\0\0new\0", 6));
  EXPECT_THROW (OutputFile (folder_.path () / "no" / "folder"), std::system_error);
}

TEST_F (TensorOutputTest, safetensors_are_aligned_and_read_back)
{
  SafetensorsLayout layout;
  const std::string odd = "na\"me\\\n";
  layout.add ("b", "BF16", 2, {3}, 6);
  layout.add (odd, "F32", 4, {}, 4);
  layout.add ("a", "U8", 1, {5}, 5);
  layout.add ("c", "U32", 4, {2, 2}, 16);
  const std::string header = layout.header ("mlx");
  EXPECT_EQ (layout.data_bytes (), 31u);
  EXPECT_EQ (header.size () % 8, 0u);
  EXPECT_EQ (layout.offset ("c"), header.size ());
  EXPECT_EQ (layout.offset (odd), header.size () + 16);
  EXPECT_EQ (layout.offset ("b"), header.size () + 20);
  EXPECT_EQ (layout.offset ("a"), header.size () + 26);
  const fs::path path = folder_.path () / "x.safetensors";
  write_file (path, header + std::string (31, 'x'));
  const WeightFiles read = WeightFiles::open_file (path);
  ASSERT_EQ (read.tensors ().size (), 4u);
  EXPECT_EQ (read.find ("c")->shape, (Shape{2, 2}));
  EXPECT_EQ (read.find (odd)->data.size (), 4u);
}

} // namespace
