// Products with matrices that no cache holds, one part of work (kRowsPerPart rows) an iteration, as a pass does them:
// the next iteration takes the next part.
#include "bench/kernels/kernels.hpp"

#include "bench/random_weights.hpp"
#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/memory.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace millrace::bench
{

namespace
{

using namespace cpu;

constexpr int kColumns = 2048;
constexpr size_t kMatrixBytes = size_t{96} << 20;

/// `rows` rows of blocks as a file has them.
std::vector<std::byte>
random_blocks (DType type, size_t bytes)
{
  RandomWeights weights (type);
  std::vector<std::byte> blocks;
  while (blocks.size () < bytes) {
    const auto part = weights.next (bytes - blocks.size ());
    blocks.insert (blocks.end (), part.begin (), part.end ());
  }
  return blocks;
}

/// Panels of random codes, of scales and biases that are small numbers.
void
fill_affine (Format format, std::span<std::byte> part)
{
  const AffineFormat affine = affine_of (format);
  const auto size = static_cast<size_t> (scale_size (affine.scales));
  const size_t groups = kColumns / static_cast<size_t> (affine.group);
  const std::vector<std::byte> scales (groups * size, std::byte (0x1c)); // 2^-8 as float16, 2^-71 as others
  const auto codes = random_blocks (DType::kQ8_0, kColumns);
  const size_t stored = panel_bytes (format, kColumns);
  AffineRow rows[kPanelRows];
  std::fill (std::begin (rows), std::end (rows), AffineRow{codes.data (), scales.data (), scales.data ()});
  for (size_t at = 0; at < part.size (); at += stored)
    pack_affine (format, rows, kPanelRows, kColumns, part.data () + at);
}

/// Groups of MLX's default in the type of most checkpoints, and what block types have, stand for all affine ones.
bool
is_measured (Format format)
{
  if (!is_affine (format) || block_type (format))
    return true;
  const AffineFormat affine = affine_of (format);
  return affine.group == 64 && affine.scales == ScaleType::kBF16;
}

/// One part's rows, stored as a format wants them.
std::vector<std::byte>
make_part (Format format)
{
  const size_t stored = panel_bytes (format, kColumns);
  if (!is_quantized (format)) {
    std::vector<std::byte> part (stored * (kRowsPerPart / kPanelRows));
    const auto values = random_floats (size_t{kRowsPerPart} * kColumns);
    for (int row = 0; row < kRowsPerPart; row++)
      pack_row (format, values.data () + row * kColumns, kColumns, row % kPanelRows,
                part.data () + static_cast<size_t> (row / kPanelRows) * stored);
    return part;
  }
  std::vector<std::byte> part (stored * (kRowsPerPart / kPanelRows));
  if (!block_type (format)) {
    fill_affine (format, part);
    return part;
  }
  const DTypeBlock block = dtype_block (*block_type (format));
  const size_t bytes = kColumns / block.elements * block.bytes;
  const auto blocks = random_blocks (*block_type (format), bytes * kRowsPerPart);
  for (size_t panel = 0; panel < kRowsPerPart / kPanelRows; panel++) {
    const std::byte *rows[kPanelRows];
    for (size_t row = 0; row < kPanelRows; row++)
      rows[row] = blocks.data () + (panel * kPanelRows + row) * bytes;
    pack_panel (format, rows, kPanelRows, kColumns, part.data () + panel * stored);
  }
  return part;
}

/// The last matrix asked for: making one takes longer than measuring it.
struct Matrix {
  Format format{};
  size_t part_bytes = 0;
  Memory memory;
};

const Matrix &
matrix_of (Format format)
{
  static Matrix matrix;
  if (matrix.part_bytes > 0 && matrix.format == format)
    return matrix;
  const auto part = make_part (format);
  matrix = {format, part.size (), Memory (kMatrixBytes, Memory::Pages::kHuge)};
  for (size_t at = 0; at + part.size () <= kMatrixBytes; at += part.size ())
    std::memcpy (matrix.memory.data () + at, part.data (), part.size ());
  return matrix;
}

void
measure (benchmark::State &state, const KernelTable &kernels, Format format, int tokens, const Roofs &roofs)
{
  const Matrix &matrix = matrix_of (format);
  const auto index = static_cast<size_t> (format);
  const auto count = static_cast<size_t> (tokens);
  const Activations kind = activations_of (kernels, format);
  const size_t x_bytes =
      kind == Activations::kFloat ? kColumns * sizeof (float) : activation_bytes (kind, kColumns);
  const auto floats = random_floats (count * kColumns);
  Memory x (count * x_bytes), y (count * kRowsPerPart * sizeof (float)), scratch (kColumns * sizeof (float));
  std::vector<float *> rows;
  for (size_t token = 0; token < count; token++) {
    std::byte *row = x.data () + token * x_bytes;
    if (kind == Activations::kFloat)
      std::memcpy (row, floats.data () + token * kColumns, x_bytes);
    else
      kernels.quantize[static_cast<size_t> (kind)](floats.data () + token * kColumns, kColumns, kColumns,
                                                   row);
    rows.push_back (y.floats () + token * kRowsPerPart);
  }
  LinearArgs args{};
  args.is_intel = kernels.is_intel;
  args.format = format;
  args.panel_bytes = panel_bytes (format, kColumns);
  args.rows = kRowsPerPart;
  args.columns = kColumns;
  args.x = x.data ();
  args.x_row_bytes = x_bytes;
  args.tokens = tokens;
  args.y = rows.data ();
  args.scratch = scratch.floats ();
  const size_t parts = kMatrixBytes / matrix.part_bytes;
  size_t part = 0;
  for (auto _ : state) {
    args.weights = matrix.memory.data () + part * matrix.part_bytes;
    kernels.linear[index](args);
    benchmark::ClobberMemory ();
    part = part + 1 < parts ? part + 1 : 0;
  }
  const double roof = kind == Activations::kFloat ? roofs.float32_gmac_per_s : roofs.int8_gmac_per_s;
  count_work (state,
              {.bytes = double (matrix.part_bytes),
               .macs = double (tokens) * kRowsPerPart * kColumns,
               .mac_roof = roof},
              roofs);
}

} // namespace

void
register_linear (const KernelTable &kernels, const Roofs &roofs)
{
  for (int format = 0; format < kFormats; format++) {
    if (!is_measured (static_cast<Format> (format)))
      continue;
    for (const int tokens : kTokenCounts) {
      const auto which = static_cast<Format> (format);
      const std::string name = std::string ("linear/") + kernels.name + "/" + format_name (which) +
                               "/tokens:" + std::to_string (tokens);
      benchmark::RegisterBenchmark (name.c_str (),
                                    [&kernels, roofs, which, tokens] (benchmark::State &state) {
                                      measure (state, kernels, which, tokens, roofs);
                                    });
    }
  }
}

} // namespace millrace::bench
