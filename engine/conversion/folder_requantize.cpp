// A folder of safetensors → a folder of safetensors: names and files as they are, matrices in other types.
#include "engine/conversion/conversions.hpp"

#include "engine/backend/weight_roles.hpp"
#include "engine/conversion/json_members.hpp"
#include "engine/error.hpp"
#include "engine/model/config.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/quantization.hpp"
#include "engine/model/tensor_names.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/coded_matrix.hpp"
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

/// What the program says of a tensor.
struct Use {
  bool matrix = true;   ///< wherever it is used
  bool whole = true;    ///< not in parts
  bool chooses = false; ///< experts
};

std::map<std::string, Use, std::less<>>
uses_of (const Program &program)
{
  std::map<std::string, Use, std::less<>> uses;
  const std::set<WeightId> routers = router_weights (program);
  for (size_t i = 0; i < program.weights.size (); ++i) {
    const WeightRef &weight = program.weights[i];
    Use &use = uses[weight.name];
    use.matrix &= weight.is_matrix ();
    use.whole &= weight.part.shape.empty ();
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
  }

  ConversionSummary run ()
  {
    for (const auto &[name, tensor] : files_.tensors ()) {
      const AffineTensor *affine = files_.affine (name);
      const std::optional<TensorEncoding> encoding = encoding_of (name, tensor);
      if (encoding && !is_same (*encoding, tensor, affine))
        output_.add (name, *encoding, tensor.shape, float_rows (files_, name));
      else if (affine)
        output_.copy_affine (name, tensor.shape, *affine);
      else
        output_.copy (name, tensor.dtype, tensor.shape, tensor.data);
    }
    copy_files ();
    return output_.write ();
  }

private:
  static bool is_same (const TensorEncoding &encoding, const TensorView &tensor, const AffineTensor *affine)
  {
    if (!affine || !encoding.codes)
      return !affine && !encoding.codes && encoding.type == tensor.dtype;
    return *encoding.codes == affine->codes && encoding.type == affine->scale_type;
  }

  /// None: it stays as it is.
  std::optional<TensorEncoding> encoding_of (const std::string &name, const TensorView &tensor)
  {
    const AffineTensor *affine = files_.affine (name);
    const CodedMatrix *coded = files_.coded (name);
    if (coded && coded->form ().type == DType::kMXFP4 && !name.ends_with (kWeight))
      throw LoadError (files_.file_of (name), name,
                       "is of MXFP4 blocks, whose experts lie in another order than those of floats: that is "
                       "not converted; use the BF16 checkpoint, or a GGUF file");
    const WantedType *wished = overridden_type (request_.overrides, name);
    const TensorEncoding &wanted = wished ? wished->encoding : request_.type.encoding;
    const auto found = uses_.find (name);
    const Use use = found == uses_.end () ? Use{false, false, false} : found->second;
    if (!affine && !coded && !is_readable_as_floats (tensor.dtype))
      return std::nullopt;
    if (!wanted.codes) // codes that nobody knows of cannot stay where no others are
      return use.matrix || wished || affine || coded ? std::optional (wanted) : std::nullopt;
    if (use.matrix && use.whole && name.ends_with (kWeight) &&
        (wished || (!use.chooses && tensor.shape.front () >= kFewestOutputs)))
      return fitted (name, tensor, {scale_type_of (tensor, affine, coded), wanted.codes});
    if (wished)
      output_.note (name + " stays as it is: it is not used as one matrix");
    return as_it_is (coded);
  }

  /// What is made of several tensors cannot stay so, but as floats.
  static std::optional<TensorEncoding> as_it_is (const CodedMatrix *coded)
  {
    return coded ? std::optional (TensorEncoding{float_type_of (*coded), {}}) : std::nullopt;
  }

  /// Rows that are no whole groups get smaller ones.
  std::optional<TensorEncoding> fitted (const std::string &name, const TensorView &tensor,
                                        TensorEncoding encoding)
  {
    constexpr int kSmallestGroup = 32;
    while (!encoding.fits (tensor.shape.back ()) && encoding.codes->group > kSmallestGroup)
      encoding.codes->group /= 2;
    if (encoding.fits (tensor.shape.back ()))
      return encoding;
    output_.note (name + " stays as it is: its rows of " + std::to_string (tensor.shape.back ()) +
                  " are no whole groups of 32");
    return as_it_is (files_.coded (name));
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
};

} // namespace

ConversionSummary
requantize_folder (const fs::path &folder, const ConversionRequest &request)
{
  return Requantization (folder, request).run ();
}

} // namespace millrace
