#include "engine/weights/fp8_matrix.hpp"

#include "engine/error.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/coded_parts.hpp"
#include "engine/weights/weight_files.hpp"

#include <array>
#include <bit>
#include <memory>

namespace millrace
{

namespace
{

constexpr std::string_view kInverse = "_scale_inv", kScale = "_scale";

std::array<float, 256>
code_values ()
{
  std::array<float, 256> values;
  for (size_t code = 0; code < values.size (); ++code)
    values[code] = e4m3_to_f32 (static_cast<uint8_t> (code));
  return values;
}

class Fp8Matrix final : public CodedMatrix
{
public:
  /// A scale is of `block_rows` × `block_columns` elements of one of the matrices, each `matrix_rows` × columns.
  Fp8Matrix (const CodedPart &codes, const CodedPart &scales, int64_t matrix_rows, int64_t block_rows,
             int64_t block_columns)
      : codes_ (codes)
      , scales_ (scales)
      , matrix_rows_ (matrix_rows)
      , block_rows_ (block_rows)
      , block_columns_ (block_columns)
      , columns_ (codes.view.shape.back ())
      , rows_ (codes.view.element_count () / columns_)
  {
  }

  int64_t rows () const override { return rows_; }
  int64_t columns () const override { return columns_; }
  void read (int64_t row, float *out) const override
  {
    static const std::array<float, 256> kValues = code_values ();
    const int64_t matrix_blocks = (matrix_rows_ + block_rows_ - 1) / block_rows_;
    const int64_t row_blocks = (columns_ + block_columns_ - 1) / block_columns_;
    const int64_t first_scale =
        (row / matrix_rows_ * matrix_blocks + row % matrix_rows_ / block_rows_) * row_blocks;
    const std::byte *codes = codes_.view.data.data () + row * columns_;
    for (int64_t block = 0; block < row_blocks; ++block) {
      const float scale = scales_.number (first_scale + block);
      const int64_t end = std::min (columns_, (block + 1) * block_columns_);
      for (int64_t i = block * block_columns_; i < end; ++i)
        out[i] = scale * kValues[std::to_integer<size_t> (codes[i])];
    }
  }

  std::span<const std::byte> source (int64_t begin, int64_t end) const override
  {
    return codes_.view.data.subspan (static_cast<size_t> (begin * columns_),
                                     static_cast<size_t> ((end - begin) * columns_));
  }

  Form form () const override { return {{}, DType::kBF16}; }
  void encode (int64_t, std::byte *) const override {}
  std::string description () const override { return "F8_E4M3"; }
  std::vector<Part> parts () const override { return {codes_.bytes (), scales_.bytes ()}; }

private:
  CodedPart codes_, scales_;
  int64_t matrix_rows_, block_rows_, block_columns_, columns_, rows_;
};

/// Scales of whole matrices or of their rows; of a stack of matrices, for each of them.
std::shared_ptr<const CodedMatrix>
matrix_of_scales (const CodedPart &codes, const CodedPart &scales)
{
  const Shape &shape = codes.view.shape;
  const int64_t columns = shape.back (), matrix_rows = shape[shape.size () - 2];
  const int64_t rows = codes.view.element_count () / columns, count = scales.view.element_count ();
  if (count == rows)
    return std::make_shared<Fp8Matrix> (codes, scales, matrix_rows, 1, columns);
  if (count == rows / matrix_rows)
    return std::make_shared<Fp8Matrix> (codes, scales, matrix_rows, matrix_rows, columns);
  if (count == 1)
    return std::make_shared<Fp8Matrix> (codes, scales, rows, rows, columns);
  scales.fail ("has shape " + to_string (scales.view.shape) + ", expected one scale, or one for each of " +
               std::to_string (rows) + " outputs");
}

std::shared_ptr<const CodedMatrix>
matrix_of_blocks (const CodedPart &codes, const CodedPart &scales, const Fp8Coding &coding)
{
  const Shape &shape = codes.view.shape;
  Shape expected = shape;
  const auto blocks = [] (int64_t count, int64_t size) { return count / size + (count % size != 0); };
  expected.back () = blocks (shape.back (), coding.block_columns);
  expected[shape.size () - 2] = blocks (shape[shape.size () - 2], coding.block_rows);
  scales.require (expected);
  return std::make_shared<Fp8Matrix> (codes, scales, shape[shape.size () - 2], coding.block_rows,
                                      coding.block_columns);
}

} // namespace

float
e4m3_to_f32 (uint8_t code)
{
  const uint32_t sign = (code & 0x80u) << 24;
  const uint32_t magnitude = code & 0x7fu;
  if (magnitude == 0x7fu)
    return std::bit_cast<float> (sign | 0x7fc00000u);
  if (magnitude < 8) // subnormal, of which a step is 2^-9
    return std::bit_cast<float> (sign | std::bit_cast<uint32_t> (static_cast<float> (magnitude) * 0x1p-9f));
  return std::bit_cast<float> (sign | ((magnitude << 20) + (120u << 23))); // 120 = 127 - 7
}

void
apply_coding (WeightFiles &files, const Fp8Coding &coding)
{
  for (const std::string &name : names_of_type (files, DType::kF8E4M3)) {
    const CodedPart codes (files, name);
    if (codes.view.shape.size () < 2 || codes.view.element_count () == 0)
      codes.fail ("has shape " + to_string (codes.view.shape) + "; 8-bit floats must be a matrix");
    const std::string inverse = name + std::string (kInverse), scale = name + std::string (kScale);
    const bool blocks = files.contains (inverse);
    const CodedPart scales (files, blocks ? inverse : scale, codes);
    scales.require_floats ();
    auto matrix = blocks ? matrix_of_blocks (codes, scales, coding) : matrix_of_scales (codes, scales);
    files.put_together (name, codes.view.shape, {codes.name, scales.name}, std::move (matrix));
  }
}

} // namespace millrace
