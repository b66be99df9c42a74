#include "engine/weights/integer_matrix.hpp"

#include "engine/weights/coded_parts.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

namespace millrace
{

namespace
{

constexpr std::string_view kCodes = ".qweight", kZeros = ".qzeros", kScales = ".scales", kGroups = ".g_idx",
                           kWeight = ".weight", kPacked = ".weight_packed", kPackedScale = ".weight_scale",
                           kPackedZeros = ".weight_zero_point", kPackedGroups = ".weight_g_idx",
                           kPackedShape = ".weight_shape";
constexpr int64_t kWordBits = 32;

/// What all have: scales, the group of each input, and codes and zeros from words.
class IntegerMatrix : public CodedMatrix
{
public:
  struct Parts {
    CodedPart codes, zeros, scales;
  };
  struct Size {
    int64_t outputs, inputs;
  };

  /// `groups`: of each input; empty: neighbours.
  IntegerMatrix (Parts parts, const Size &size, int bits, int64_t group, std::vector<int32_t> groups)
      : parts_ (std::move (parts))
      , inputs_ (size.inputs)
      , outputs_ (size.outputs)
      , group_ (group)
      , groups_ (std::move (groups))
      , bits_ (bits)
  {
    if (groups_.empty ())
      for (const int kept : {128, 64, 32})
        if (group_ % kept == 0 && inputs_ % kept == 0 && kept_group_ == 0)
          kept_group_ = kept;
  }

  int64_t rows () const override { return outputs_; }
  int64_t columns () const override { return inputs_; }

  void read (int64_t row, float *out) const override
  {
    uint8_t codes[kChunk];
    for (int64_t begin = 0; begin < inputs_; begin += kChunk) {
      const int64_t end = std::min (inputs_, begin + kChunk);
      read_codes (row, begin, end, codes);
      for (int64_t i = begin, run_end = 0; i < end; i = run_end) {
        const int64_t group = group_of (i);
        run_end = groups_.empty () ? std::min (end, (group + 1) * group_) : i + 1;
        const float own_scale = scale (row, group);
        const auto own_zero = static_cast<int32_t> (zero (row, group));
        for (int64_t j = i; j < run_end; ++j)
          out[j] = own_scale * static_cast<float> (codes[j - begin] - own_zero);
      }
    }
  }

  Form form () const override
  {
    if (kept_group_ > 0)
      return {AffineCodes{bits_, kept_group_}, DType::kF32};
    return {{}, parts_.scales.view.dtype};
  }

  void encode (int64_t row, std::byte *out) const override
  {
    uint8_t codes[kChunk];
    uint32_t held = 0; // codes to write, and how many bits of them
    int held_bits = 0;
    for (int64_t begin = 0; begin < inputs_; begin += kChunk) {
      const int64_t end = std::min (inputs_, begin + kChunk);
      read_codes (row, begin, end, codes);
      for (int64_t i = 0; i < end - begin; ++i) {
        held |= static_cast<uint32_t> (codes[i]) << held_bits;
        held_bits += bits_;
        for (; held_bits >= 8; held_bits -= 8, held >>= 8)
          *out++ = static_cast<std::byte> (held);
      }
    }
    const auto put = [&] (const auto &number) {
      for (int64_t i = 0; i < inputs_; i += kept_group_) {
        const float value = number (i / group_);
        std::memcpy (out, &value, sizeof value);
        out += sizeof value;
      }
    };
    put ([&] (int64_t group) { return scale (row, group); });
    put ([&] (int64_t group) { return -scale (row, group) * static_cast<float> (zero (row, group)); });
  }

  std::vector<Part> parts () const override
  {
    return {parts_.codes.bytes (), parts_.zeros.bytes (), parts_.scales.bytes ()};
  }

protected:
  static constexpr int64_t kChunk = 256; ///< inputs; whole words for any number of bits

  /// Of inputs [begin, end); begin is a chunk's first.
  virtual void read_codes (int64_t output, int64_t begin, int64_t end, uint8_t *out) const = 0;
  virtual uint32_t zero (int64_t output, int64_t group) const = 0;
  /// Where its scale is.
  virtual int64_t scale_index (int64_t output, int64_t group) const { return group * outputs_ + output; }

  const Parts &words () const { return parts_; }
  int bits () const { return bits_; }
  int64_t outputs () const { return outputs_; }
  std::string described (const std::string &name) const
  {
    return name + " " + std::to_string (bits_) + " bits, groups of " + std::to_string (group_) +
           (groups_.empty () ? "" : " in act-order");
  }

private:
  int64_t group_of (int64_t input) const
  {
    return groups_.empty () ? input / group_ : groups_[static_cast<size_t> (input)];
  }
  float scale (int64_t output, int64_t group) const
  {
    return parts_.scales.number (scale_index (output, group));
  }

  Parts parts_;
  int64_t inputs_, outputs_, group_;
  std::vector<int32_t> groups_;
  int bits_, kept_group_ = 0; ///< 0: codes are not kept
};

class GptqMatrix final : public IntegerMatrix
{
public:
  GptqMatrix (Parts parts, const Size &size, const GptqCoding &coding, int64_t group,
              std::vector<int32_t> groups)
      : IntegerMatrix (std::move (parts), size, coding.bits, group, std::move (groups))
      , less_one_ (coding.zeros_less_one)
  {
  }
  std::string description () const override { return described ("GPTQ"); }

private:
  uint32_t mask () const { return (1u << bits ()) - 1; }

  void read_codes (int64_t output, int64_t begin, int64_t end, uint8_t *out) const override
  {
    int64_t row = begin * bits () / kWordBits;
    uint64_t held = 0; // bits to come, and how many
    int held_bits = 0;
    for (int64_t i = begin; i < end; ++i) {
      if (held_bits < bits ()) {
        held |= static_cast<uint64_t> (words ().codes.word (row++ * outputs () + output)) << held_bits;
        held_bits += kWordBits;
      }
      *out++ = static_cast<uint8_t> (held & mask ());
      held >>= bits ();
      held_bits -= bits ();
    }
  }

  /// Its bits may go on in the next word.
  uint32_t zero (int64_t output, int64_t group) const override
  {
    const int64_t row_words = outputs () * bits () / kWordBits, bit = output * bits ();
    const int64_t index = group * row_words + bit / kWordBits;
    const auto shift = static_cast<int> (bit % kWordBits);
    uint32_t stored = words ().zeros.word (index) >> shift;
    if (shift + bits () > kWordBits)
      stored |= words ().zeros.word (index + 1) << (kWordBits - shift);
    return (less_one_ ? stored + 1 : stored) & mask ();
  }

  bool less_one_;
};

class AwqMatrix final : public IntegerMatrix
{
public:
  static constexpr int kBits = 4;
  static constexpr int64_t kOfWord = kWordBits / kBits;

  AwqMatrix (Parts parts, const Size &size, int64_t group)
      : IntegerMatrix (std::move (parts), size, kBits, group, {})
  {
  }
  std::string description () const override { return described ("AWQ"); }

private:
  uint8_t nibble (const CodedPart &part, int64_t row, int64_t output) const
  {
    constexpr int kPlaces[kOfWord] = {0, 4, 1, 5, 2, 6, 3, 7}; ///< of outputs in a word
    const uint32_t word = part.word (row * (outputs () / kOfWord) + output / kOfWord);
    return static_cast<uint8_t> (word >> (kBits * kPlaces[output % kOfWord]) & 15u);
  }

  void read_codes (int64_t output, int64_t begin, int64_t end, uint8_t *out) const override
  {
    for (int64_t i = begin; i < end; ++i)
      *out++ = nibble (words ().codes, i, output);
  }
  uint32_t zero (int64_t output, int64_t group) const override
  {
    return nibble (words ().zeros, group, output);
  }
};

/// Words are whole codes.
class PackedMatrix final : public IntegerMatrix
{
public:
  /// Without zeros of their own `parts` has the codes in their place.
  PackedMatrix (Parts parts, const Size &size, int bits, int64_t group, std::vector<int32_t> groups)
      : IntegerMatrix (std::move (parts), size, bits, group, std::move (groups))
      , row_words_ (words ().codes.view.shape[1])
      , groups_ (words ().scales.view.shape[1])
      , has_zeros_ (words ().zeros.name != words ().codes.name)
  {
  }
  std::string description () const override { return described ("pack-quantized"); }

private:
  uint32_t code (const CodedPart &part, int64_t word, int64_t index) const
  {
    const int64_t of_word = kWordBits / bits ();
    return part.word (word) >> (index % of_word * bits ()) & ((1u << bits ()) - 1);
  }
  void read_codes (int64_t output, int64_t begin, int64_t end, uint8_t *out) const override
  {
    for (int64_t i = begin; i < end; ++i)
      *out++ = static_cast<uint8_t> (code (words ().codes, output * row_words_ + i * bits () / kWordBits, i));
  }
  uint32_t zero (int64_t output, int64_t group) const override
  {
    return has_zeros_ ? code (words ().zeros, output * bits () / kWordBits * groups_ + group, output)
                      : 1u << (bits () - 1);
  }
  int64_t scale_index (int64_t output, int64_t group) const override { return output * groups_ + group; }

  int64_t row_words_, groups_;
  bool has_zeros_;
};

/// The tensors of a module, of the types that they must have; shapes are of two dimensions.
IntegerMatrix::Parts
parts_of (const WeightFiles &files, const std::string &module)
{
  const CodedPart codes (files, module + std::string (kCodes));
  IntegerMatrix::Parts parts{codes, CodedPart (files, module + std::string (kZeros), codes),
                             CodedPart (files, module + std::string (kScales), codes)};
  parts.codes.require (DType::kI32);
  parts.zeros.require (DType::kI32);
  parts.scales.require_floats ();
  for (const CodedPart *part : {&parts.codes, &parts.zeros, &parts.scales})
    if (part->view.shape.size () != 2 || part->view.element_count () == 0)
      part->fail ("has shape " + to_string (part->view.shape) + ", expected two dimensions");
  return parts;
}

/// What the tensor of two integers says, which the words' shape leaves open where rows are no whole words.
IntegerMatrix::Size
size_of (const CodedPart &shape, const CodedPart &codes, int bits)
{
  if (shape.view.dtype != DType::kI64 && shape.view.dtype != DType::kI32)
    shape.require (DType::kI64);
  shape.require (Shape{2});
  int64_t sizes[2];
  for (int i = 0; i < 2; ++i) {
    if (shape.view.dtype == DType::kI64)
      std::memcpy (&sizes[i], shape.view.data.data () + i * sizeof sizes[i], sizeof sizes[i]);
    else
      sizes[i] = shape.word (i);
  }
  const int64_t words = codes.view.shape[1], of_word = kWordBits / bits;
  if (sizes[0] != codes.view.shape[0] || sizes[1] <= (words - 1) * of_word || sizes[1] > words * of_word)
    codes.fail ("has shape " + to_string (codes.view.shape) + ", which cannot be that of " +
                std::to_string (sizes[0]) + " × " + std::to_string (sizes[1]) + " codes of " +
                std::to_string (bits) + " bits");
  return {sizes[0], sizes[1]};
}

/// Inputs that share a scale, of which there are `groups`.
int64_t
group_size (const CodedPart &scales, int64_t inputs, int64_t group)
{
  const int64_t size = group == 0 ? inputs : group, groups = scales.view.shape[0];
  if (groups != inputs / size + (inputs % size != 0))
    scales.fail ("has " + std::to_string (groups) + " groups for rows of " + std::to_string (inputs) +
                 " and a group_size of " + std::to_string (size));
  return size;
}

/// Of each input; empty when inputs are in the order of their groups.
std::vector<int32_t>
groups_of (const CodedPart &indices, int64_t inputs, int64_t group, int64_t groups)
{
  indices.require (DType::kI32);
  indices.require (Shape{inputs});
  std::vector<int32_t> result (static_cast<size_t> (inputs));
  std::memcpy (result.data (), indices.view.data.data (), result.size () * sizeof (int32_t));
  bool in_order = true;
  for (int64_t i = 0; i < inputs; ++i) {
    const int32_t own = result[static_cast<size_t> (i)];
    if (own < 0 || own >= groups)
      indices.fail ("names group " + std::to_string (own) + " of " + std::to_string (groups));
    in_order = in_order && own == i / group;
  }
  return in_order ? std::vector<int32_t>{} : result;
}

void
put (WeightFiles &files, const std::string &module, const IntegerMatrix::Parts &parts,
     std::shared_ptr<const IntegerMatrix> matrix)
{
  std::vector<std::string> names{parts.codes.name, parts.zeros.name, parts.scales.name};
  if (const std::string groups = module + std::string (kGroups); files.contains (groups))
    names.push_back (groups);
  const Shape shape{matrix->rows (), matrix->columns ()};
  files.put_together (module + std::string (kWeight), shape, names, std::move (matrix));
}

} // namespace

void
apply_coding (WeightFiles &files, const GptqCoding &coding)
{
  for (const std::string &module : names_that_end (files, kCodes)) {
    const IntegerMatrix::Parts parts = parts_of (files, module);
    const Shape &words = parts.codes.view.shape;
    const int64_t outputs = words[1], inputs = words[0] * kWordBits / coding.bits;
    if (words[0] * kWordBits % coding.bits != 0 || outputs * coding.bits % kWordBits != 0)
      parts.codes.fail ("has shape " + to_string (words) + ", which cannot be that of " +
                        std::to_string (coding.bits) + " bits");
    const int64_t group = group_size (parts.scales, inputs, coding.group),
                  groups = parts.scales.view.shape[0];
    parts.scales.require (Shape{groups, outputs});
    parts.zeros.require (Shape{groups, outputs * coding.bits / kWordBits});
    std::vector<int32_t> of_inputs;
    if (const std::string name = module + std::string (kGroups); files.contains (name))
      of_inputs = groups_of (CodedPart (files, name), inputs, group, groups);
    put (files, module, parts,
         std::make_shared<GptqMatrix> (parts, IntegerMatrix::Size{outputs, inputs}, coding, group,
                                       std::move (of_inputs)));
  }
}

void
apply_coding (WeightFiles &files, const PackedCoding &coding)
{
  for (const std::string &module : names_that_end (files, kPacked)) {
    const CodedPart codes (files, module + std::string (kPacked));
    const CodedPart scales (files, module + std::string (kPackedScale), codes);
    const CodedPart shape (files, module + std::string (kPackedShape), codes);
    const std::string zeros_name = module + std::string (kPackedZeros),
                      groups_name = module + std::string (kPackedGroups);
    const bool has_zeros = files.contains (zeros_name);
    const IntegerMatrix::Parts parts{codes, has_zeros ? CodedPart (files, zeros_name) : codes, scales};
    codes.require (DType::kI32);
    parts.zeros.require (DType::kI32);
    scales.require_floats ();
    for (const CodedPart *part : {&codes, &parts.zeros, &scales})
      if (part->view.shape.size () != 2 || part->view.element_count () == 0)
        part->fail ("has shape " + to_string (part->view.shape) + ", expected two dimensions");
    const IntegerMatrix::Size size = size_of (shape, codes, coding.bits);
    const int64_t groups = scales.view.shape[1], of_word = kWordBits / coding.bits;
    scales.require (Shape{size.outputs, groups});
    if (has_zeros)
      parts.zeros.require (Shape{(size.outputs + of_word - 1) / of_word, groups});
    if (size.inputs % groups != 0)
      scales.fail ("has " + std::to_string (groups) + " groups for rows of " + std::to_string (size.inputs));
    std::vector<int32_t> of_inputs;
    std::vector<std::string> names{codes.name, scales.name, shape.name};
    if (has_zeros)
      names.push_back (zeros_name);
    if (files.contains (groups_name)) {
      of_inputs = groups_of (CodedPart (files, groups_name), size.inputs, size.inputs / groups, groups);
      names.push_back (groups_name);
    }
    files.put_together (module + std::string (kWeight), {size.outputs, size.inputs}, names,
                        std::make_shared<PackedMatrix> (parts, size, coding.bits, size.inputs / groups,
                                                        std::move (of_inputs)));
  }
}

void
apply_coding (WeightFiles &files, const AwqCoding &coding)
{
  for (const std::string &module : names_that_end (files, kCodes)) {
    const IntegerMatrix::Parts parts = parts_of (files, module);
    const int64_t inputs = parts.codes.view.shape[0], words = parts.codes.view.shape[1];
    const int64_t group = group_size (parts.scales, inputs, coding.group),
                  groups = parts.scales.view.shape[0];
    parts.scales.require (Shape{groups, words * AwqMatrix::kOfWord});
    parts.zeros.require (Shape{groups, words});
    const IntegerMatrix::Size size{words * AwqMatrix::kOfWord, inputs};
    put (files, module, parts, std::make_shared<AwqMatrix> (parts, size, group));
  }
}

} // namespace millrace
