// Sizes of the stored formats (kernels.hpp), and floats or a file's blocks → panels.
//
// Blocks of a file are taken apart and put together again, never rounded: a panel means exactly what the file's rows
// mean. Portable code; pure functions; any thread.
#pragma once

#include "engine/backend/cpu/kernels.hpp"
#include "engine/tensor/dtype.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace millrace::cpu
{

/// Raised whenever the bytes change that equal files become: by panels, by the quantizers, by the order of weights in
/// memory. Packed weights are kept on disk (weight_cache.hpp).
constexpr uint32_t kLayoutVersion = 1;

/// Not floats: integers and scales.
bool is_quantized (Format format);
size_t panel_bytes (Format format, int columns);
/// `inputs` with padding.
int padded_columns (Format format, int inputs);
/// What the table's product of a format takes.
Activations activations_of (const KernelTable &kernels, Format format);
/// Bytes of one token's activations, a multiple of 64; 0 for kFloat.
size_t activation_bytes (Activations kind, int columns);
/// "bf16", "int8", "q4_k", ...
const char *format_name (Format format);

/// `count` floats → row `row` of a panel of floats.
void pack_row (Format format, const float *values, int count, int row, std::byte *panel);

/// Whether rows of such elements can be given to pack_floats ().
bool same_floats (Format format, DType dtype);
/// `row_count` (1 … kPanelRows) rows of `count` floats that are stored as the format has them → a panel, bit by bit.
void pack_floats (Format format, const std::byte *const *rows, int row_count, int count, std::byte *panel);

/// The block type that has the elements of a quantized format, and whose rows pack_panel () takes; none for most of the
/// affine ones.
std::optional<DType> block_type (Format format);
/// The other way: none for types that are no blocks.
std::optional<Format> format_of_blocks (DType dtype);
/// `row_count` (1 … kPanelRows) rows of `columns` elements in blocks → a panel, of a format that has a block type. `out`
/// must be zeros.
void pack_panel (Format format, const std::byte *const *rows, int row_count, int columns, std::byte *out);

/// A row of an affine matrix as safetensors have it: codes one after the other from the lowest bit of the first byte on;
/// scales and biases of each group.
struct AffineRow {
  const std::byte *codes, *scales, *biases;
};
/// `row_count` rows of `columns` elements, whose bits, group and type of scales are the format's → a panel.
void pack_affine (Format format, const AffineRow *rows, int row_count, int columns, std::byte *out);

} // namespace millrace::cpu
