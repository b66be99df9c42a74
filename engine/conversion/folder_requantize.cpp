// A folder of safetensors → a folder of safetensors: names and files as they are, matrices in other types. Experts of one tensor
// get names of their own where they get codes (expert_matrices.hpp). MXFP4 stays so where other codes would take as much room.
#include "engine/conversion/conversions.hpp"

#include "engine/backend/weight_roles.hpp"
#include "engine/conversion/expert_matrices.hpp"
#include "engine/conversion/json_members.hpp"
#include "engine/error.hpp"
#include "engine/model/config.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/quantization.hpp"
#include "engine/model/tensor_names.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/mxfp4_matrix.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr std::string_view kWeight = ".weight", kConfig = "config.json";
constexpr int64_t kFewestOutputs = 8; ///< of a matrix that is worth quantizing
constexpr uintmax_t kMostFileBytes = 256 << 20;

constexpr int kMxfp4Bits = 4; ///< codes of fewer take less room

/// What the program says of a tensor.
struct Use {
  bool matrix = true;   ///< wherever it is used
  bool whole = true;    ///< not in parts, but for experts whose rows are the tensor's
  bool chooses = false; ///< experts
};

/// Of all experts.
std::set<WeightId>
expert_weights (const Program &program)
{
  std::set<WeightId> weights;
  for (const Op &op : program.ops)
    if (const auto *experts = std::get_if<ExpertsOp> (&op))
      for (const ExpertsOp::Expert &expert : experts->experts)
        weights.insert ({expert.gate, expert.up, expert.down});
  return weights;
}

std::map<std::string, Use, std::less<>>
uses_of (const Program &program)
{
  std::map<std::string, Use, std::less<>> uses;
  const std::set<WeightId> routers = router_weights (program), experts = expert_weights (program);
  for (size_t i = 0; i < program.weights.size (); ++i) {
    const WeightRef &weight = program.weights[i];
    Use &use = uses[weight.name];
    use.matrix &= weight.is_matrix ();
    use.whole &= weight.part.shape.empty () ||
                 (experts.contains (static_cast<WeightId> (i)) && weight.part.output_step == weight.inputs);
    use.chooses |= routers.contains (static_cast<WeightId> (i));
  }
  return uses;
}

/// The floats that have what a matrix of several tensors means, or are nearest to it.
DType
float_type_of (const CodedMatrix &coded)
{
  const CodedMatrix::Form form = coded.form ();
  if (form.codes)
    return DType::kF32;
  return is_block_type (form.type) ? DType::kBF16 : form.type;
}

/// Scales and biases are of the type that the matrix had, or one as good.
DType
scale_type_of (const TensorView &tensor, const AffineTensor *affine, const CodedMatrix *coded)
{
  if (affine)
    return affine->scale_type;
  if (coded)
    return coded->form ().codes ? DType::kF16 : float_type_of (*coded);
  return is_block_type (tensor.dtype) ? DType::kF16 : tensor.dtype;
}

class Requantization
{
public:
  Requantization (const fs::path &folder, const ConversionRequest &request)
      : folder_ (folder)
      , request_ (request)
      , files_ (WeightFiles::open (folder))
      , output_ (request)
  {
    const ArchitectureSpec spec = load_architecture (folder / kConfig);
    if (const auto quantization = load_quantization (folder / kConfig))
      apply_quantization (files_, *quantization);
    const Program program = build_program (spec, files_);
    require_tensors (program, files_);
    uses_ = uses_of (program);
    stacks_ = expert_stacks (program, files_, spec.family);
    for (const LayerSpec &layer : spec.layers)
      if (const auto *moe = std::get_if<MoeSpec> (&layer.channel))
        transposed_ |= moe->tensors.layout == ExpertTensors::Layout::kTransposed;
  }

  ConversionSummary run ()
  {
    for (const auto &[name, stack] : stacks_)
      add_stack (name, stack);
    for (const auto &[name, tensor] : files_.tensors ()) {
      if (apart_.contains (name))
        continue;
      const AffineTensor *affine = files_.affine (name);
      const std::optional<TensorEncoding> encoding = encoding_of (name, tensor);
      if (encoding && !is_same (*encoding, tensor, affine))
        add (name, *encoding, tensor);
      else if (affine)
        output_.copy_affine (name, tensor.shape, *affine);
      else
        output_.copy (name, tensor.dtype, tensor.shape, tensor.data);
    }
    copy_files ();
    return output_.write ();
  }

private:
  /// A matrix, and what it is now.
  struct Matrix {
    const std::string &name;
    Shape shape;
    const TensorView &tensor;
    const AffineTensor *affine;
    const CodedMatrix *coded;

    bool is_mxfp4 () const { return coded && coded->form ().type == DType::kMXFP4; }
  };

  static bool is_same (const TensorEncoding &encoding, const TensorView &tensor, const AffineTensor *affine)
  {
    if (!affine || !encoding.codes)
      return !affine && !encoding.is_codes () && encoding.type == tensor.dtype;
    return *encoding.codes == affine->codes && encoding.type == affine->scale_type;
  }

  void add (const std::string &name, const TensorEncoding &encoding, const TensorView &tensor)
  {
    const auto coded = files_.share_coded (name);
    if (!coded || name.ends_with (kWeight) || !transposed_)
      return output_.add (name, encoding, tensor.shape, float_rows (files_, name));
    Shape shape = tensor.shape; // of codes outputs are rows, of floats inputs
    const int64_t outputs = shape[shape.size () - 2];
    std::swap (shape[shape.size () - 2], shape.back ());
    output_.add (name, encoding, shape, mxfp4_columns (coded, outputs));
  }

  /// Matrix by matrix where one of them gets codes.
  void add_stack (const std::string &name, const ExpertStack &stack)
  {
    const TensorView &tensor = *files_.find (name);
    const CodedMatrix *coded = files_.coded (name);
    std::vector<TensorEncoding> encodings;
    bool is_codes = false;
    for (const ExpertPart &part : stack.matrices) {
      const Matrix matrix{part.name, part.shape, tensor, nullptr, coded};
      const WantedType *wished = overridden_type (request_.overrides, part.name);
      if (!wished)
        wished = overridden_type (request_.overrides, name);
      const auto encoding = encoding_of (matrix, {true, true, false}, wished, part.shape[1]);
      encodings.push_back (encoding.value_or (TensorEncoding{tensor.dtype, {}}));
      is_codes |= encodings.back ().is_codes ();
    }
    if (!is_codes)
      return;
    for (size_t i = 0; i < stack.matrices.size (); ++i)
      output_.add (stack.matrices[i].name, encodings[i], stack.matrices[i].shape, stack.matrices[i].values);
    for (const ExpertPart &bias : stack.biases)
      output_.add (bias.name, {files_.find (stack.bias)->dtype, {}}, bias.shape, bias.values);
    apart_.insert (name);
    apart_.insert (stack.bias);
  }

  /// Of a tensor that keeps its name. None: it stays as it is.
  std::optional<TensorEncoding> encoding_of (const std::string &name, const TensorView &tensor)
  {
    const Matrix matrix{name, tensor.shape, tensor, files_.affine (name), files_.coded (name)};
    const auto found = uses_.find (name);
    Use use = found == uses_.end () ? Use{false, false, false} : found->second;
    use.whole &= name.ends_with (kWeight);
    const int64_t outputs = tensor.shape.size () > 1 ? tensor.shape[tensor.shape.size () - 2] : 0;
    return encoding_of (matrix, use, overridden_type (request_.overrides, name), outputs);
  }

  std::optional<TensorEncoding> encoding_of (const Matrix &matrix, const Use &use, const WantedType *wished,
                                             int64_t outputs)
  {
    const TensorEncoding wanted = folder_encoding (wished ? *wished : request_.type);
    const bool is_coded = matrix.affine || matrix.coded;
    if (!is_coded && !is_readable_as_floats (matrix.tensor.dtype))
      return std::nullopt;
    if (!wanted.is_codes ()) // codes that nobody knows of cannot stay where no others are
      return use.matrix || wished || is_coded ? std::optional (wanted) : std::nullopt;
    if (use.matrix && use.whole && (wished || (!use.chooses && outputs >= kFewestOutputs))) {
      if (matrix.is_mxfp4 () && !wished && wanted.codes && wanted.codes->bits >= kMxfp4Bits)
        return as_it_is (matrix);
      return fitted (matrix, wanted.codes
                                 ? TensorEncoding{scale_type_of (matrix.tensor, matrix.affine, matrix.coded),
                                                  wanted.codes}
                                 : wanted);
    }
    if (wished)
      output_.note (matrix.name + " stays as it is: it is not used as one matrix");
    return as_it_is (matrix);
  }

  /// What is made of several tensors cannot stay so, but as floats or as MXFP4.
  static std::optional<TensorEncoding> as_it_is (const Matrix &matrix)
  {
    if (matrix.is_mxfp4 () && matrix.name.ends_with (kWeight))
      return kFolderMxfp4;
    return matrix.coded ? std::optional (TensorEncoding{float_type_of (*matrix.coded), {}}) : std::nullopt;
  }

  /// Rows that are no whole groups get smaller ones.
  std::optional<TensorEncoding> fitted (const Matrix &matrix, TensorEncoding encoding)
  {
    constexpr int kSmallestGroup = 32;
    const int64_t columns = matrix.shape.back ();
    while (encoding.codes && !encoding.fits (columns) && encoding.codes->group > kSmallestGroup)
      encoding.codes->group /= 2;
    if (encoding.fits (columns))
      return encoding;
    output_.note (matrix.name + " stays as it is: its rows of " + std::to_string (columns) +
                  " are no whole groups of 32");
    return as_it_is (matrix);
  }

  void copy_files ()
  {
    for (const fs::directory_entry &entry : fs::directory_iterator (folder_)) {
      const std::string name = entry.path ().filename ().string ();
      if (!entry.is_regular_file () || !belongs_to_model (name) || entry.file_size () > kMostFileBytes)
        continue;
      const MappedFile file (entry.path ());
      std::string contents (reinterpret_cast<const char *> (file.bytes ().data ()), file.bytes ().size ());
      output_.add_file (name, name == kConfig ? config (contents) : std::move (contents));
    }
  }

  static bool belongs_to_model (const std::string &name)
  {
    if (name.ends_with (".safetensors.index.json"))
      return false;
    const std::string extension = fs::path (name).extension ().string ();
    constexpr std::array<std::string_view, 5> kExtensions{".json", ".jinja", ".model", ".txt", ".md"};
    return std::ranges::find (kExtensions, extension) != kExtensions.end () || name.starts_with ("LICENSE") ||
           name.starts_with ("NOTICE");
  }

  std::string config (std::string_view text) const
  {
    std::vector<JsonMember> members = without_quantization (text);
    for (JsonMember &member : members)
      if (member.name == "text_config")
        member.value = json_object (without_quantization (member.value));
    if (const std::string quantization = output_.quantization (); !quantization.empty ())
      for (const char *name : {"quantization", "quantization_config"}) // as mlx-lm has it, twice
        members.push_back ({name, quantization});
    return json_object (members);
  }

  static std::vector<JsonMember> without_quantization (std::string_view object)
  {
    std::vector<JsonMember> members = json_members (object);
    std::erase_if (members, [] (const JsonMember &member) {
      return member.name == "quantization" || member.name == "quantization_config" ||
             member.name == "compression_config";
    });
    return members;
  }

  const fs::path &folder_;
  const ConversionRequest &request_;
  WeightFiles files_;
  FolderOutput output_;
  std::map<std::string, Use, std::less<>> uses_;
  std::map<std::string, ExpertStack, std::less<>> stacks_;
  bool transposed_ = false;                  ///< experts of one tensor that are floats
  std::set<std::string, std::less<>> apart_; ///< tensors in whose place there are others
};

} // namespace

ConversionSummary
requantize_folder (const fs::path &folder, const ConversionRequest &request)
{
  return Requantization (folder, request).run ();
}

} // namespace millrace
