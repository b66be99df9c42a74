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
                           kWeight = ".weight";
constexpr int64_t kWordBits = 32;

/// What both have: scales [groups, outputs], the group of each input, and codes and zeros from words.
class IntegerMatrix : public CodedMatrix
{
public:
  struct Parts {
    CodedPart codes, zeros, scales;
  };

  /// `groups`: of each input; empty: neighbours.
  IntegerMatrix (Parts parts, int64_t inputs, int bits, int64_t group, std::vector<int32_t> groups)
      : parts_ (std::move (parts))
      , inputs_ (inputs)
      , outputs_ (parts_.scales.view.shape[1])
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
    return parts_.scales.number (group * outputs_ + output);
  }

  Parts parts_;
  int64_t inputs_, outputs_, group_;
  std::vector<int32_t> groups_;
  int bits_, kept_group_ = 0; ///< 0: codes are not kept
};

class GptqMatrix final : public IntegerMatrix
{
public:
  GptqMatrix (Parts parts, int64_t inputs, const GptqCoding &coding, int64_t group,
              std::vector<int32_t> groups)
      : IntegerMatrix (std::move (parts), inputs, coding.bits, group, std::move (groups))
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

  AwqMatrix (Parts parts, int64_t inputs, int64_t group)
      : IntegerMatrix (std::move (parts), inputs, kBits, group, {})
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
         std::make_shared<GptqMatrix> (parts, inputs, coding, group, std::move (of_inputs)));
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
    put (files, module, parts, std::make_shared<AwqMatrix> (parts, inputs, group));
  }
}

} // namespace millrace
