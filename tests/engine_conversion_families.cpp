// labels: oracle
// timeout: 600
// soak: MILLRACE_ALL_FORMATS=1
//
// Each family through each format that it can be written in: what `millrace quantize` writes, computed with as it is held in
// memory, against the same weights dequantized and computed with in float32, a path that is compared with transformers
// (engine_model_oracle.cpp, and engine_model_gguf.cpp for GGUF files).
//
// Kernels of quantized weights round what they are multiplied with to 8 bits; nothing else may differ. How much a rounding
// shows depends on the model, so it is measured: by the float32 model with noise on its weights whose effect on a product is
// that of the rounding. A step is the largest of a group's elements / 127, and the error of an element step / sqrt (12); with a
// largest element of four times the root of their mean square, more than groups of 32 and 256 mostly have, that is 1 % of
// that root. A model may differ from its float32 form by what that noise does (measured: half of it). Where experts are
// chosen, one draw of noise and another change different choices, each with a large effect, and a model may differ 2.5
// times as much (measured: up to 1.7). Where weights are floats nothing is rounded, and the tolerance is that of float32.
#include "engine/backend/weight_roles.hpp"
#include "engine/conversion/conversion.hpp"
#include "engine/error.hpp"
#include "engine/model/model.hpp"
#include "engine/weights/float_rows.hpp"
#include "tests/family_checkpoints.hpp"
#include "tests/gguf_models.hpp"
#include "tests/gguf_sayable.hpp"
#include "tests/model_runner.hpp"
#include "tests/oracle_models.hpp"
#include "tests/relative_error.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr double kNoise = 0.01; ///< of an element of a product, of the root of the mean square
constexpr double kMargin = 1, kChoiceMargin = 2.5; ///< without, and with choices of experts
constexpr double kExact = 1e-4;                    ///< of float weights

const std::vector<std::string> kFolderTypes = [] {
  std::vector<std::string> types;
  for (const char *bits : {"2", "3", "4", "5", "6", "8"})
    for (const char *group : {"32", "64", "128"})
      types.push_back ("affine" + std::string (bits) + "g" + group);
  types.push_back ("MXFP4");
  return types;
}();
const std::vector<std::string> kGgufTypes = {
    "F16",    "BF16",   "Q8_0",   "Q4_0",   "Q4_1",   "Q5_0",   "Q5_1", "Q2_K",   "Q2_K_S", "Q3_K_S",
    "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "MXFP4",  "MXFP4_MOE"};

bool
all_formats ()
{
  const char *value = std::getenv ("MILLRACE_ALL_FORMATS");
  return value && *value;
}

/// All of them, or in the short run one, which is another one for each model.
std::vector<std::string>
some_of (const std::vector<std::string> &types, size_t model)
{
  if (all_formats ())
    return types;
  return {types[model % types.size ()]};
}

/// The model in F32, with noise on each row of whatever is multiplied with and gets rounded activations.
void
write_noisy (const fs::path &folder, const fs::path &to)
{
  const WeightFiles files = WeightFiles::open (folder);
  const Program program = build_program (load_architecture (folder / "config.json"), files);
  const std::set<WeightId> routers = router_weights (program);
  std::set<std::string> noisy;
  for (size_t i = 0; i < program.weights.size (); ++i)
    if (program.weights[i].is_matrix () && !routers.contains (static_cast<WeightId> (i)))
      noisy.insert (program.weights[i].name);
  std::mt19937 random (23);
  std::normal_distribution<float> normal;
  std::vector<SyntheticTensor> tensors;
  for (const auto &[name, view] : files.tensors ()) {
    if (!is_readable_as_floats (view.dtype))
      continue;
    SyntheticTensor tensor{name, view.shape, DType::kF32, {}};
    tensor.values.resize (static_cast<size_t> (view.element_count ()));
    read_floats (view.dtype, view.data.data (), view.element_count (), tensor.values.data ());
    if (noisy.contains (name)) {
      double power = 0;
      for (const float value : tensor.values)
        power += value * static_cast<double> (value);
      const auto deviation =
          static_cast<float> (kNoise * std::sqrt (power / static_cast<double> (tensor.values.size ())));
      for (float &value : tensor.values)
        value += deviation * normal (random);
    }
    tensors.push_back (std::move (tensor));
  }
  fs::create_directory (to);
  fs::copy_file (folder / "config.json", to / "config.json");
  write_safetensors (to / "model.safetensors", tensors);
}

bool
is_of_floats (const ConversionSummary &summary)
{
  return std::ranges::all_of (summary.types, [] (const auto &type) {
    return type.first == "F32" || type.first == "F16" || type.first == "BF16";
  });
}

/// What was found, by the name that a type is asked for by.
class Report
{
public:
  /// `error`, and what part of what noise does that is.
  void add (const std::string &type, const std::string &model, const ConversionSummary &summary, double error,
            double of_noise)
  {
    Figure &figure = figures_[type];
    ++figure.models;
    if (of_noise >= figure.of_noise) {
      figure.of_noise = of_noise;
      figure.model = model;
    }
    figure.error = std::max (figure.error, error);
    for (const auto &[name, written] : summary.types)
      matrices_[name] += written.tensors;
  }

  void print () const
  {
    for (const auto &[type, figure] : figures_)
      std::printf ("%-12s %3d models, relative error of logits at most %.5f; %.2f of what noise does: %s\n",
                   type.c_str (), figure.models, figure.error, figure.of_noise, figure.model.c_str ());
    std::printf ("tensors:");
    for (const auto &[name, count] : matrices_)
      std::printf (" %d %s", count, name.c_str ());
    std::printf ("\n");
  }

private:
  struct Figure {
    int models = 0;
    double error = 0, of_noise = 0; ///< the largest ones
    std::string model;              ///< of the largest part of the noise
  };
  std::map<std::string, Figure> figures_;
  std::map<std::string, int> matrices_; ///< by the type that was written
};

/// One model in all its formats.
class FamilyFormats
{
public:
  FamilyFormats (const fs::path &model, std::vector<TokenId> tokens, std::string name, Report &report)
      : model_ (model)
      , tokens_ (std::move (tokens))
      , name_ (std::move (name))
      , report_ (report)
  {
    const ArchitectureSpec spec = load_architecture (model_ / "config.json");
    if (std::ranges::any_of (spec.layers, [] (const LayerSpec &layer) {
          return std::holds_alternative<MoeSpec> (layer.channel);
        }))
      margin_ = kChoiceMargin;
    write_noisy (model_, folder_.path () / "noisy");
    noise_ = relative_error (logits (model_, WeightFormat::kF32),
                             logits (folder_.path () / "noisy", WeightFormat::kF32));
  }

  void check_folders (const std::vector<std::string> &types) const
  {
    for (const std::string &type : types)
      check (model_, type, "");
  }

  /// False where a GGUF file cannot say what the configuration does.
  bool check_gguf (const std::vector<std::string> &types) const
  {
    const TemporaryFolder other;
    const fs::path plain = folder_.path () / "plain.gguf";
    write_gguf_model (sayable (model_, other.path ()), plain);
    try {
      logits (plain, WeightFormat::kF32);
    } catch (const LoadError &error) {
      std::printf ("%s is no GGUF file: %s\n", name_.c_str (), error.what ());
      return false;
    }
    for (const std::string &type : types)
      check (plain, type, ".gguf");
    return true;
  }

private:
  std::vector<float> logits (const fs::path &path, WeightFormat weights) const
  {
    ModelOptions options;
    options.weights = weights;
    options.cpu.threads = 2;
    const auto model = Model::open (path, options);
    const RunnableModel runnable{model->spec, model->compiled};
    const auto length = static_cast<int> (tokens_.size ());
    SequenceRunner runner (runnable, length, length);
    runner.run (tokens_, length);
    return runner.outputs ().logits;
  }

  void check (const fs::path &from, const std::string &type, const std::string &suffix) const
  {
    SCOPED_TRACE (name_ + " as " + type + suffix);
    const fs::path quantized = folder_.path () / ("quantized" + suffix),
                   plain = folder_.path () / ("dequantized" + suffix);
    const auto convert = [] (const fs::path &source, const fs::path &to, const std::string &wanted) {
      return convert_model ({source, to, *parse_wanted_type (wanted), {}, 2, {}});
    };
    const ConversionSummary summary = convert (from, quantized, type);
    convert (quantized, plain, "F32");
    const auto expected = logits (plain, WeightFormat::kF32);
    EXPECT_TRUE (same_bits (logits (quantized, WeightFormat::kF32), expected));
    const double error = relative_error (expected, logits (quantized, WeightFormat::kAuto));
    const bool floats = is_of_floats (summary); // rows of some models are no whole groups
    EXPECT_LE (error, floats ? kExact : margin_ * noise_) << "noise does " << noise_;
    EXPECT_TRUE (floats || error > 0) << "nothing is rounded: it is not computed with what was written";
    report_.add (type, name_, summary, error, error / noise_);
    fs::remove_all (quantized);
    fs::remove_all (plain);
  }

  fs::path model_;
  std::vector<TokenId> tokens_;
  std::string name_;
  Report &report_;
  TemporaryFolder folder_;
  double noise_ = 0, margin_ = kMargin;
};

TEST (FamilyFormats, oracle_models_are_what_their_dequantized_weights_are)
{
  REQUIRE_ORACLES ("oracles");
  Report report;
  size_t index = 0;
  for (const OracleModel &model : oracle_models ()) {
    const WeightFiles oracle = WeightFiles::open_file (model.folder / "oracle.safetensors");
    const FamilyFormats formats (model.folder, tensor_values<int32_t> (oracle, "prompt3.ids"), model.name,
                                 report);
    formats.check_folders (some_of (kFolderTypes, index));
    EXPECT_TRUE (formats.check_gguf (some_of (kGgufTypes, index))) << model.name;
    ++index;
  }
  report.print ();
}

// Rows of 256, which the super-blocks of K-quants need.
TEST (FamilyFormats, wide_models_are_what_their_dequantized_weights_are)
{
  Report report;
  size_t index = 7; // other formats than the oracle models get
  int gguf_models = 0;
  for (const auto &[name, unused] : family_configurations ()) {
    const TemporaryFolder folder;
    write_random_model (folder.path (), wide_family_config (name), 11);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 40; ++i)
      tokens.push_back ((i * 37 + 11) % 83);
    const FamilyFormats formats (folder.path (), tokens, name, report);
    if (all_formats () || index % 2 == 0)
      formats.check_folders (some_of (kFolderTypes, index));
    if (all_formats () || index % 2 == 1)
      gguf_models += formats.check_gguf (some_of (kGgufTypes, index));
    ++index;
  }
  EXPECT_GE (gguf_models, all_formats () ? 15 : 5);
  report.print ();
}

} // namespace
