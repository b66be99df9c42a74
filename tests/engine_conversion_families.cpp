// labels: oracle
// timeout: 300
// soak: MILLRACE_ALL_FORMATS=1
//
// Each family through each format that it can be written in: what `millrace quantize` writes, computed with as it is held in
// memory, against the same weights dequantized and computed with in float32, a path that is compared with transformers
// (engine_model_oracle.cpp, and engine_model_gguf.cpp for GGUF files).
//
// Kernels of quantized weights round what they are multiplied with to 8 bits; nothing else may differ. How much a rounding
// shows depends on the model, so it is measured: on the dequantized model, with noise on its weights whose effect on a
// product is that of the rounding (rounding_noise.hpp), as the mean of a few draws' squares. A model may differ from its
// dequantized form by what that noise does (measured: by half of it, and at most two thirds). That holds for models in which
// a small error has a small effect, so models are made such, as far as a configuration can: all experts are chosen, and norms
// do not make large what is nearly nothing. Where weights are floats nothing is rounded, and the tolerance is that of float32.
//
// What was written is looked at too: whether each matrix has the type that was asked for is told from its shape.
#include "engine/conversion/conversion.hpp"
#include "engine/error.hpp"
#include "engine/model/model.hpp"
#include "tests/family_checkpoints.hpp"
#include "tests/gguf_models.hpp"
#include "tests/gguf_sayable.hpp"
#include "tests/model_runner.hpp"
#include "tests/oracle_models.hpp"
#include "tests/relative_error.hpp"
#include "tests/rounding_noise.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr int kDraws = 3;       ///< of noise
constexpr double kExact = 1e-4; ///< of float weights

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

/// Whether rows are whole groups of the smallest size that there is. Of such rows every format has codes, if need be in
/// smaller groups or blocks than were asked for; of others none has.
bool
has_rows_of_groups (const WeightRef &weight)
{
  return weight.inputs % 32 == 0;
}

/// Whether a matrix gets codes where they are asked for: not what is small, and in folders not what is no matrix as it lies there.
bool
gets_codes (const Product &product, bool gguf)
{
  constexpr int64_t kFewestOutputs = 8;
  const Shape shape = product.weight.shape ();
  const bool may = gguf ? is_quantizable_gguf ({product.weight.name, shape})
                        : !product.of_head && shape[shape.size () - 2] >= kFewestOutputs;
  return may && has_rows_of_groups (product.weight);
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
      : tokens_ (std::move (tokens))
      , name_ (std::move (name))
      , report_ (report)
  {
    write_smooth_model (model, model_);
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

  /// What the noise of rounding does to the model in `plain`, whose products are stored as `products` are.
  double noise_of (const fs::path &plain, const std::vector<Product> &products,
                   std::span<const float> expected) const
  {
    std::map<std::string, double> noise;
    for (const Product &product : products)
      if (const double error = rounding_error (product); error > 0)
        noise[product.weight.name] = error;
    if (noise.empty ())
      return 0;
    double power = 0;
    for (uint32_t draw = 0; draw < kDraws; ++draw) {
      const fs::path noisy = folder_.path () / ("noisy" + plain.extension ().string ());
      fs::copy (plain, noisy, fs::copy_options::recursive);
      add_noise (noisy, noise, draw);
      power += std::pow (relative_error (expected, logits (noisy, WeightFormat::kF32)), 2);
      fs::remove_all (noisy);
    }
    return std::sqrt (power / kDraws);
  }

  static void expect_types (const std::vector<Product> &products, const std::string &type, bool gguf)
  {
    const WantedType wanted = *parse_wanted_type (type);
    const bool codes = wanted.is_affine () || wanted.is_blocks ();
    bool any = wanted.mix == GgufMix::kMxfp4Moe; // which a model without experts has nothing of
    for (const Product &product : products) {
      SCOPED_TRACE (product.weight.name);
      const int inputs = product.weight.inputs;
      EXPECT_EQ (product.is_rounded (), codes && gets_codes (product, gguf));
      any =
          any || product.form.codes || product.form.type == fitting_gguf_type (wanted.encoding.type, inputs);
      if (gguf || !product.is_rounded ())
        continue;
      std::optional<AffineCodes> expected = wanted.encoding.codes;
      while (expected && inputs % expected->group != 0)
        expected->group /= 2;
      EXPECT_EQ (product.form.codes, expected);
      EXPECT_TRUE (expected || product.form.type == wanted.encoding.type);
    }
    EXPECT_TRUE (any) << "no matrix has this type";
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
    const std::vector<Product> products = products_of (quantized);
    expect_types (products, type, !suffix.empty ());
    const auto expected = logits (plain, WeightFormat::kF32);
    EXPECT_TRUE (same_bits (logits (quantized, WeightFormat::kF32), expected));
    const double error = relative_error (expected, logits (quantized, WeightFormat::kAuto));
    const double noise = noise_of (plain, products, expected);
    EXPECT_LE (error, noise > 0 ? noise : kExact);
    EXPECT_TRUE (noise == 0 || error > 0) << "nothing is rounded: it is not computed with what was written";
    report_.add (type, name_, summary, error, noise > 0 ? error / noise : 0);
    fs::remove_all (quantized);
    fs::remove_all (plain);
  }

  std::vector<TokenId> tokens_;
  std::string name_;
  Report &report_;
  TemporaryFolder folder_;
  fs::path model_ = folder_.path () / "model";
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
