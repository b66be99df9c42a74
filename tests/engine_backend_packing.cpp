// labels: unit
// What loading costs, and that packed bytes are what they were.
#include "engine/backend/backend.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/weights/weight_files.hpp"
#include "tests/quantized_rows.hpp"
#include "tests/sanitized.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <xxhash.h>

#include <fstream>
#include <sys/wait.h>
#include <unistd.h>

using namespace millrace;
using namespace millrace::testing;
namespace fs = std::filesystem;

namespace
{

// A checkpoint that is larger than what it becomes must not be in memory with it.
TEST (Packing, loading_needs_hardly_more_memory_than_the_weights)
{
  if (kSanitized)
    GTEST_SKIP () << "sanitizers keep memory of their own";
  const TemporaryFolder folder;
  // Large enough for what the kernel maps ahead (some MB for each thread, by the size of its folios) not to count.
  constexpr int64_t kRows = 100000, kColumns = 1024;
  const std::string size = std::to_string (kRows * kColumns * 4);
  const std::string header =
      R"({"embedding":{"dtype":"F32","shape":[100000,1024],"data_offsets":[0,)" + size + "]}}";
  const uint64_t length = header.size ();
  const fs::path file = folder.path () / "model.safetensors";
  write_file (file, std::string (reinterpret_cast<const char *> (&length), 8) + header);
  fs::resize_file (file, 8 + length + kRows * kColumns * 4);
  Program program;
  program.vocab = kRows;
  program.hidden = kColumns;
  program.max_positions = 16;
  program.weights = {{"embedding", kRows, kColumns}};
  program.buffers = {{kColumns}};
  program.ops = {EmbedOp{0, 0}};

  for (const WeightFormat format : {WeightFormat::kAuto, WeightFormat::kBF16, WeightFormat::kInt8}) {
    const pid_t child = fork (); // its peak is its own
    if (child == 0) {
      const auto backend = create_cpu_backend ({.threads = 2});
      const auto kib = [] (const std::string &name) {
        std::ifstream status ("/proc/self/status");
        for (std::string line; std::getline (status, line);) {
          if (line.starts_with (name))
            return std::atol (line.c_str () + name.size () + 1);
        }
        return 0l;
      };
      std::ofstream ("/proc/self/clear_refs") << "5"; // forgets the peak
      const long before = kib ("VmRSS");
      const auto model = backend->compile (program, WeightFiles::open (folder.path ()), {format});
      const double ratio =
          static_cast<double> ((kib ("VmHWM") - before) << 10) / static_cast<double> (model->weight_bytes ());
      std::printf ("peak %.3f of %zu bytes\n", ratio, model->weight_bytes ());
      std::fflush (stdout);
      _exit (ratio >= 0.9 && ratio <= 1.15 ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ (waitpid (child, &status, 0), child);
    EXPECT_EQ (status, 0) << static_cast<int> (format);
  }
}

TEST (Packing, floats_that_are_moved_are_the_floats_that_are_converted)
{
  std::mt19937 random (3);
  for (const auto &[format, dtype] :
       {std::pair (cpu::Format::kF32, DType::kF32), std::pair (cpu::Format::kF16, DType::kF16),
        std::pair (cpu::Format::kBF16, DType::kBF16)}) {
    ASSERT_TRUE (cpu::same_floats (format, dtype));
    for (int count = 1; count <= 100; ++count) {
      const int row_count = 1 + count % cpu::kPanelRows;
      const size_t bytes = cpu::panel_bytes (format, cpu::padded_columns (format, count));
      std::vector<std::byte> moved (bytes), converted (bytes);
      std::vector<std::string> stored;
      std::vector<const std::byte *> rows;
      for (int row = 0; row < row_count; ++row) {
        SyntheticTensor tensor{"", {}, dtype, {}};
        for (int i = 0; i < count; ++i)
          tensor.values.push_back (static_cast<float> (random () % 255) - 127.0f); // exact in all
        cpu::pack_row (format, tensor.values.data (), count, row, converted.data ());
        stored.push_back ("x" + encode_values (tensor)); // not aligned
      }
      for (const std::string &row : stored)
        rows.push_back (reinterpret_cast<const std::byte *> (row.data () + 1));
      cpu::pack_floats (format, rows.data (), row_count, count, moved.data ());
      EXPECT_EQ (moved, converted) << cpu::format_name (format) << ", " << count << " columns";
    }
  }
}

// Files on disk outlive programs. When this fails, panels, quantizers or the order of weights have changed: raise
// kLayoutVersion, then put the new numbers here.
TEST (Layout, packed_bytes_are_those_of_the_version)
{
  ASSERT_EQ (cpu::kLayoutVersion, 1u);
  using cpu::Format;
  uint32_t state = 12345;
  const auto next = [&state] { return state = state * 1664525u + 1013904223u; };
  std::vector<float> values (8 * 512);
  for (float &value : values)
    value = static_cast<float> (static_cast<int32_t> (next ())) * 0x1p-31f;

  const auto affine = [] (int bits, int group, cpu::ScaleType scales) {
    return cpu::affine_format ({bits, group, scales});
  };
  const std::pair<Format, uint64_t> formats[] = {
      {Format::kF32, 17006169829969456326u},
      {Format::kF16, 870239465587077920u},
      {Format::kBF16, 9000574821366659669u},
      {Format::kQ8, 15784574322676303244u},
      {Format::kQ4, 18080440432025317548u},
      {Format::kQ4K, 4596078753210740669u},
      {Format::kQ6K, 5209793610270955632u},
      {Format::kQ5, 16218232780942096482u},
      {Format::kIQ4NL, 14381363233883051785u},
      {Format::kMXFP4, 4152882677878410170u},
      {Format::kQ2K, 6054479279272465490u},
      {Format::kQ3K, 10992292924762302423u},
      {Format::kQ5K, 11199625810947944647u},
      {affine (2, 64, cpu::ScaleType::kBF16), 8783565243676096490u},
      {affine (3, 64, cpu::ScaleType::kF16), 6127936854571478036u},
      {affine (4, 32, cpu::ScaleType::kF16), 2379323273184842257u},
      {affine (4, 64, cpu::ScaleType::kBF16), 11696591710047002098u},
      {affine (5, 32, cpu::ScaleType::kF16), 8008164371643380389u},
      {affine (6, 128, cpu::ScaleType::kBF16), 6600567499504316555u},
      {affine (8, 64, cpu::ScaleType::kF32), 15606216331882298662u}};
  for (const auto &[format, digest] : formats) {
    std::vector<std::byte> panel (cpu::panel_bytes (format, 512));
    std::vector<StoredRow> rows;
    for (int row = 0; row < cpu::kPanelRows; ++row) {
      const float *of_row = values.data () + row * 512;
      if (cpu::is_quantized (format))
        rows.push_back (stored_row (format, {of_row, of_row + 512}));
      else
        cpu::pack_row (format, of_row, 512, row, panel.data ());
    }
    if (cpu::is_quantized (format))
      pack_rows (format, rows, 512, panel.data ());
    EXPECT_EQ (XXH3_64bits (panel.data (), panel.size ()), digest) << cpu::format_name (format);
  }
}

} // namespace
