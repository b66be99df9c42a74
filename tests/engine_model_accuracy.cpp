// labels: unit
// timeout: 300
//
// What fewer bits of weights cost: perplexity of the demo model on a fixed text (bench/perplexity.cpp prints more of
// it), and that every instruction set reads the text alike.
#include "bench/text_loss.hpp"
#include "engine/model/model.hpp"
#include "tests/model_runner.hpp"
#include "tests/sanitized.hpp"
#include "tests/test_paths.hpp"

#include <fstream>
#include <iostream>
#include <iterator>

using namespace millrace;
using namespace millrace::testing;

namespace
{

std::vector<TokenId>
fixed_text (const Tokenizer &tokenizer)
{
  std::ifstream in (source_path ("tests/data/perplexity.txt"), std::ios::binary);
  const std::string text ((std::istreambuf_iterator<char> (in)), {});
  return tokenizer.encode (text);
}

double
perplexity (const Model &model, std::span<const TokenId> text)
{
  return bench::text_loss (*model.compiled, static_cast<size_t> (model.spec.vocab), KvType::kF32, text,
                           static_cast<size_t> (model.spec.max_positions))
      .perplexity ();
}

std::shared_ptr<const Model>
open (const char *name, WeightFormat weights, CpuOptions::Isa isa = CpuOptions::Isa::kAuto)
{
  return Model::open (source_path (std::string ("models/") + name),
                      {.weights = weights, .cpu = {.threads = 2, .isa = isa}});
}

// docs/performance.md has the figures.
TEST (ModelAccuracy, perplexity_of_quantized_weights_is_near_that_of_floats)
{
  double exact = 0;
  struct Bound {
    WeightFormat weights;
    const char *name;
    double most; ///< times the perplexity of F32
  };
  constexpr Bound kBounds[] = {{WeightFormat::kF32, "f32", 1},
                               {WeightFormat::kBF16, "bf16", 1.0001}, // as the file has them
                               {WeightFormat::kInt8, "int8", 1.005},
                               {WeightFormat::kInt4, "int4", 1.04}};
  for (const Bound &bound : kBounds) {
    const auto model = open ("demo", bound.weights);
    auto text = fixed_text (*model->tokenizer);
    ASSERT_GT (text.size (), 4000u);
    if (kSanitized)
      text.resize (1000);
    const double value = perplexity (*model, text);
    if (exact == 0)
      exact = value;
    std::cout << bound.name << ": perplexity " << value << ", " << 100 * (value / exact - 1) << " %\n";
    EXPECT_LE (value, exact * bound.most) << bound.name;
    EXPECT_GT (value, exact * 0.99) << bound.name << " is too good to be true";
  }
}

// Not to the bit: norms and attention are in floats, whose order of additions is each instruction set's own.
TEST (ModelAccuracy, instruction_sets_agree)
{
  for (const WeightFormat weights : {WeightFormat::kF32, WeightFormat::kInt8, WeightFormat::kInt4}) {
    double first = 0;
    for (const CpuOptions::Isa isa : host_isas ()) {
      const auto model = open ("demo-draft", weights, isa);
      auto text = fixed_text (*model->tokenizer);
      text.resize (kSanitized ? 100 : 500);
      const double value = perplexity (*model, text);
      if (first == 0)
        first = value;
      EXPECT_NEAR (value, first, first * 1e-3)
          << isa_name (isa) << ", weights " << static_cast<int> (weights);
    }
  }
}

} // namespace
