#include "engine/weights/mxfp4_matrix.hpp"

#include "engine/weights/coded_parts.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <memory>

namespace millrace
{

namespace
{

constexpr std::string_view kBlocks = "_blocks", kScales = "_scales", kWeight = ".weight",
                           kModuleScales = ".scales";
constexpr int64_t kBlock = 32, kBlockBytes = 16;

class Mxfp4Matrix final : public CodedMatrix
{
public:
  Mxfp4Matrix (const CodedPart &codes, const CodedPart &scales)
      : codes_ (codes)
      , scales_ (scales)
      , row_blocks_ (scales.view.shape.back ())
      , rows_ (scales.view.element_count () / row_blocks_)
  {
  }

  int64_t rows () const override { return rows_; }
  int64_t columns () const override { return row_blocks_ * kBlock; }
  void read (int64_t row, float *out) const override
  {
    for (int64_t block = 0; block < row_blocks_; ++block) {
      const int64_t at = row * row_blocks_ + block;
      const float half = mxfp4_half_scale (std::to_integer<uint8_t> (scales_.view.data[at]));
      for (int64_t j = 0; j < kBlockBytes; ++j) {
        const auto byte = std::to_integer<uint8_t> (codes_.view.data[at * kBlockBytes + j]);
        *out++ = half * static_cast<float> (kMxfp4Values[byte & 15]);
        *out++ = half * static_cast<float> (kMxfp4Values[byte >> 4]);
      }
    }
  }

  std::span<const std::byte> source (int64_t begin, int64_t end) const override
  {
    const int64_t row_bytes = row_blocks_ * kBlockBytes;
    return codes_.view.data.subspan (static_cast<size_t> (begin * row_bytes),
                                     static_cast<size_t> ((end - begin) * row_bytes));
  }

  float element (int64_t row, int64_t column) const
  {
    const int64_t at = row * row_blocks_ + column / kBlock;
    const std::byte pair = codes_.view.data[at * kBlockBytes + column % kBlock / 2];
    return mxfp4_half_scale (std::to_integer<uint8_t> (scales_.view.data[at])) *
           static_cast<float> (
               kMxfp4Values[std::to_integer<uint8_t> (column % 2 == 0 ? pair : pair >> 4) & 15]);
  }

  Form form () const override { return {{}, DType::kMXFP4}; }
  void encode (int64_t row, std::byte *out) const override
  {
    for (int64_t block = 0; block < row_blocks_; ++block) {
      const int64_t at = row * row_blocks_ + block;
      const std::byte *codes = codes_.view.data.data () + at * kBlockBytes;
      *out++ = scales_.view.data[at];
      for (int64_t j = 0; j < kBlockBytes; ++j) // elements j and j + 16
        *out++ = code (codes, j) | code (codes, j + kBlockBytes) << 4;
    }
  }

  std::string description () const override { return "MXFP4"; }
  std::vector<Part> parts () const override { return {codes_.bytes (), scales_.bytes ()}; }

private:
  static std::byte code (const std::byte *codes, int64_t index)
  {
    return (index % 2 == 0 ? codes[index / 2] : codes[index / 2] >> 4) & std::byte{15};
  }

  CodedPart codes_, scales_;
  int64_t row_blocks_, rows_;
};

class Mxfp4Columns final : public FloatRows
{
public:
  Mxfp4Columns (std::shared_ptr<const Mxfp4Matrix> matrix, int64_t outputs)
      : matrix_ (std::move (matrix))
      , outputs_ (outputs)
  {
  }

  int64_t rows () const override { return matrix_->rows () / outputs_ * matrix_->columns (); }
  int64_t columns () const override { return outputs_; }
  void read (int64_t row, float *out) const override
  {
    const int64_t first = row / matrix_->columns () * outputs_, column = row % matrix_->columns ();
    for (int64_t output = 0; output < outputs_; ++output)
      out[output] = matrix_->element (first + output, column);
  }
  std::span<const std::byte> source (int64_t, int64_t) const override { return {}; }

private:
  std::shared_ptr<const Mxfp4Matrix> matrix_;
  int64_t outputs_;
};

} // namespace

std::shared_ptr<const FloatRows>
mxfp4_columns (std::shared_ptr<const CodedMatrix> matrix, int64_t outputs)
{
  return std::make_shared<Mxfp4Columns> (std::static_pointer_cast<const Mxfp4Matrix> (std::move (matrix)),
                                         outputs);
}

void
take_mxfp4_apart (std::span<const std::byte> blocks, std::byte *codes, std::byte *scales)
{
  for (size_t at = 0; at < blocks.size (); at += kBlockBytes + 1) {
    const std::byte *block = blocks.data () + at;
    *scales++ = *block++;
    const auto code = [&] (int64_t i) {
      return (i < kBlockBytes ? block[i] : block[i - kBlockBytes] >> 4) & std::byte{15};
    };
    for (int64_t j = 0; j < kBlockBytes; ++j)
      *codes++ = code (2 * j) | code (2 * j + 1) << 4;
  }
}

void
apply_coding (WeightFiles &files, const Mxfp4Coding &)
{
  for (const std::string &name : names_that_end (files, kBlocks)) {
    const CodedPart codes (files, name + std::string (kBlocks));
    const CodedPart scales (files, name + std::string (kScales), codes);
    codes.require (DType::kU8);
    scales.require (DType::kU8);
    Shape shape = codes.view.shape;
    if (shape.size () < 3 || shape.back () != kBlockBytes || codes.view.element_count () == 0)
      codes.fail ("has shape " + to_string (shape) + "; MXFP4 blocks must be rows of blocks of 16 bytes");
    shape.pop_back ();
    scales.require (shape);
    shape.back () *= kBlock;
    files.put_together (name, shape, {codes.name, scales.name},
                        std::make_shared<Mxfp4Matrix> (codes, scales));
  }
}

void
put_mxfp4_together (WeightFiles &files, const std::string &name)
{
  const CodedPart codes (files, name);
  const CodedPart scales (
      files, name.substr (0, name.size () - kWeight.size ()) + std::string (kModuleScales), codes);
  scales.require (DType::kU8);
  constexpr int64_t kWords = kBlockBytes / 4;
  Shape shape = codes.view.shape;
  if (shape.size () < 2 || shape.back () % kWords != 0 || codes.view.element_count () == 0)
    codes.fail ("has shape " + to_string (shape) + ", whose rows cannot be those of an MXFP4 matrix");
  shape.back () /= kWords;
  scales.require (shape);
  shape.back () *= kBlock;
  files.put_together (name, shape, {codes.name, scales.name}, std::make_shared<Mxfp4Matrix> (codes, scales));
}

} // namespace millrace
