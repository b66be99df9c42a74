// Checkpoints as other tools write them, made from those of here: a model as it is stored, and as what that means.
#pragma once

#include "engine/error.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/model.hpp"
#include "engine/model/model_files.hpp"
#include "engine/weights/float_rows.hpp"
#include "tests/coded_checkpoints.hpp"
#include "tests/family_checkpoints.hpp"
#include "tests/model_runner.hpp"
#include "tests/raw_safetensors.hpp"
#include "tests/test_paths.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace millrace::testing
{

/// A checkpoint's tensors as floats, by name.
using Tensors = std::map<std::string, SyntheticTensor>;

inline Tensors
read_tensors (const std::filesystem::path &folder)
{
  const WeightFiles files = WeightFiles::open (folder);
  Tensors tensors;
  for (const auto &[name, view] : files.tensors ()) {
    if (!is_readable_as_floats (view.dtype))
      continue;
    SyntheticTensor tensor{name, view.shape, DType::kF32, {}};
    tensor.values.resize (static_cast<size_t> (view.element_count ()));
    read_floats (view.dtype, view.data.data (), view.element_count (), tensor.values.data ());
    tensors.emplace (name, std::move (tensor));
  }
  return tensors;
}

inline RawTensor
raw (const SyntheticTensor &tensor)
{
  return {tensor.name, std::string (dtype_name (tensor.dtype)), tensor.shape, encode_values (tensor)};
}

inline std::string
text_of (const std::filesystem::path &file)
{
  std::ifstream stream (file, std::ios::binary);
  return {std::istreambuf_iterator<char> (stream), {}};
}

/// config.json with one more member.
inline std::string
with_member (const std::string &config, const std::string &member)
{
  return "{" + member + ", " + config.substr (config.find ('{') + 1);
}

/// What a tensor becomes: the tensors that are stored, and what they mean; none: it stays.
struct Replacement {
  std::vector<RawTensor> stored;
  std::vector<float> values; ///< of the tensor; empty: as they were
};
using Converter = std::function<std::optional<Replacement> (const SyntheticTensor &tensor)>;

class CheckpointTest : public ::testing::Test
{
protected:
  std::filesystem::path original () const { return folder_.path () / "original"; }
  std::filesystem::path coded () const { return folder_.path () / "coded"; }
  std::filesystem::path plain () const { return folder_.path () / "plain"; }

  void SetUp () override
  {
    for (const std::filesystem::path &path : {original (), coded (), plain ()})
      std::filesystem::create_directory (path);
  }

  void write_original (const std::string &config) { write_random_model (original (), config, 31); }

  /// The model in `from`, as `convert` stores it and as what that means.
  void convert (const std::filesystem::path &from, const std::string &member, const Converter &convert)
  {
    const std::string config = text_of (from / "config.json");
    std::vector<RawTensor> stored;
    std::vector<SyntheticTensor> meant;
    for (auto &[name, tensor] : read_tensors (from)) {
      if (auto replacement = convert (tensor)) {
        std::ranges::move (replacement->stored, std::back_inserter (stored));
        if (!replacement->values.empty ())
          tensor.values = std::move (replacement->values);
      } else {
        stored.push_back (raw (tensor));
      }
      meant.push_back (std::move (tensor));
    }
    write_raw_safetensors (coded () / "model.safetensors", stored);
    write_safetensors (plain () / "model.safetensors", meant);
    write_file (coded () / "config.json", member.empty () ? config : with_member (config, member));
    write_file (plain () / "config.json", config);
  }

  static std::shared_ptr<const Model> open (const std::filesystem::path &path, WeightFormat weights,
                                            const std::filesystem::path &cache = {})
  {
    ModelOptions options;
    options.weights = weights;
    options.cpu.threads = 2;
    options.weight_cache = cache;
    return Model::open (path, options);
  }

  static std::vector<float> logits_of (const Model &model)
  {
    std::vector<TokenId> tokens;
    for (int i = 0; i < 40; ++i)
      tokens.push_back ((i * 37 + 11) % std::min (83, model.spec.vocab));
    const RunnableModel runnable{model.spec, model.compiled};
    SequenceRunner runner (runnable, 40, 40);
    runner.run (tokens, 40);
    return runner.outputs ().logits;
  }

  static double relative_error (std::span<const float> expected, std::span<const float> found)
  {
    double error = 0, power = 0;
    for (size_t i = 0; i < expected.size (); ++i) {
      error += (expected[i] - found[i]) * static_cast<double> (expected[i] - found[i]);
      power += expected[i] * static_cast<double> (expected[i]);
    }
    return std::sqrt (error / power);
  }

  /// Exactly, as floats, and where `formats` are of floats as they are held too; otherwise within `most` of it.
  void expect_meant (double most, const std::vector<std::string> &formats)
  {
    const auto expected = logits_of (*open (plain (), WeightFormat::kF32));
    const auto as_floats = open (coded (), WeightFormat::kF32);
    EXPECT_TRUE (same_bits (logits_of (*as_floats), expected))
        << relative_error (expected, logits_of (*as_floats));
    EXPECT_EQ (as_floats->load_warning (), "");
    const auto held = open (coded (), WeightFormat::kAuto);
    EXPECT_LE (relative_error (expected, logits_of (*held)), most);
    const WeightFiles &files = *open_weights ();
    const auto memory =
        create_cpu_backend ({})->plan (build_program (held->spec, files), files, WeightFormat::kAuto);
    for (const std::string &format : formats)
      EXPECT_TRUE (std::ranges::any_of (memory, [&] (const WeightMemory &m) { return m.format == format; }))
          << format;
    // Packed weights that are kept, and read again.
    const auto first = logits_of (*open (coded (), WeightFormat::kAuto, folder_.path () / "cache"));
    EXPECT_TRUE (
        same_bits (logits_of (*open (coded (), WeightFormat::kAuto, folder_.path () / "cache")), first));
    EXPECT_TRUE (same_bits (logits_of (*held), first));
  }

  const WeightFiles *open_weights ()
  {
    files_ = open_model_files (coded ());
    return &files_->weights ();
  }

  void expect_refused (const std::string &field, const std::string &part)
  {
    try {
      open (coded (), WeightFormat::kAuto);
    } catch (const LoadError &error) {
      EXPECT_EQ (error.field, field) << error.what ();
      EXPECT_NE (std::string (error.what ()).find (part), std::string::npos) << error.what ();
      return;
    }
    ADD_FAILURE () << "opened; expected an error about " << field << ": " << part;
  }

  TemporaryFolder folder_;
  std::unique_ptr<ModelFiles> files_;
};

/// What quantizers take: matrices of layers, but not what chooses experts.
inline bool
is_quantized_matrix (const SyntheticTensor &tensor)
{
  return tensor.shape.size () == 2 && tensor.name.find (".layers.") != std::string::npos &&
         tensor.name.ends_with (".weight") && tensor.name.find ("norm") == std::string::npos &&
         !tensor.name.ends_with ("mlp.gate.weight") && !tensor.name.ends_with ("router.weight") &&
         tensor.shape[0] >= 8;
}

inline std::string
module_of (const SyntheticTensor &tensor)
{
  return tensor.name.substr (0, tensor.name.size () - std::string (".weight").size ());
}

/// Rows and columns of matrices of a stack change places.
inline SyntheticTensor
transposed (const SyntheticTensor &tensor)
{
  SyntheticTensor result = tensor;
  const auto rows = static_cast<size_t> (tensor.shape[1]), columns = static_cast<size_t> (tensor.shape[2]);
  std::swap (result.shape[1], result.shape[2]);
  for (size_t i = 0; i < tensor.values.size (); ++i) {
    const size_t matrix = i / (rows * columns), row = i / columns % rows, column = i % columns;
    result.values[matrix * rows * columns + column * rows + row] = tensor.values[i];
  }
  return result;
}

// Experts with inputs as rows become blocks with outputs as rows; where both are as many, nothing but the name tells.
inline std::optional<Replacement>
gpt_oss_blocks (const SyntheticTensor &tensor)
{
  if (!tensor.name.ends_with ("experts.gate_up_proj") && !tensor.name.ends_with ("experts.down_proj"))
    return std::nullopt;
  SyntheticTensor rows = transposed (tensor);
  std::vector<int64_t> scales = rows.shape;
  scales.back () /= 32;
  std::vector<int64_t> blocks = scales;
  blocks.push_back (16);
  auto parts = mxfp4_tensors ({tensor.name + "_blocks", "U8", blocks, ""},
                              {tensor.name + "_scales", "U8", scales, ""}, rows.values);
  rows.values = std::move (parts.values);
  return Replacement{std::move (parts.tensors), transposed (rows).values};
}

inline const std::string kMxfp4 =
    R"("quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]})";

} // namespace millrace::testing
