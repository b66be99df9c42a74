// How well a model foretells a text: for perplexity.cpp and tests/engine_model_accuracy.cpp.
//
// The text is cut into windows of at most `window` tokens. Each begins with nothing before it; of its tokens all but
// the first are foretold and count, those with little before them too. Sums are in double precision and in the order of
// the text, so that equal logits give equal figures.
#pragma once

#include "engine/backend/backend.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

namespace millrace::bench
{

struct TextLoss {
  double nats = 0; ///< sum of -ln p (token | those before it in its window)
  size_t tokens = 0;

  double perplexity () const { return std::exp (nats / static_cast<double> (tokens)); }
};

inline double
negative_log_likelihood (std::span<const float> logits, TokenId token)
{
  const double most = *std::ranges::max_element (logits);
  double sum = 0;
  for (const float logit : logits)
    sum += std::exp (logit - most);
  return most + std::log (sum) - logits[static_cast<size_t> (token)];
}

inline TextLoss
text_loss (const CompiledModel &model, size_t vocab, KvType kv_type, std::span<const TokenId> text,
           size_t window)
{
  constexpr size_t kPass = 64; // tokens
  const size_t positions = std::min (window, text.size ());
  std::vector<BlockId> blocks ((positions + kBlockTokens - 1) / kBlockTokens); // the same ids in every group
  std::iota (blocks.begin (), blocks.end (), 0);
  ContextOptions options;
  options.kv_type = kv_type;
  options.kv_blocks.fill (static_cast<int> (blocks.size ()));
  options.max_tokens = kPass;
  const std::unique_ptr<ExecutionContext> context = model.create_context (options);
  std::vector<float> logits (kPass * vocab);

  TextLoss loss;
  for (; !text.empty (); text = text.subspan (std::min (window, text.size ()))) {
    const auto tokens = text.first (std::min (window, text.size ()));
    for (size_t at = 0; at + 1 < tokens.size (); at += kPass) {
      Slice slice;
      slice.tokens =
          tokens.subspan (at, std::min (kPass, tokens.size () - 1 - at)); // the last foretells nothing
      slice.position = static_cast<int> (at);
      slice.blocks.fill (blocks);
      slice.scored = static_cast<int> (slice.tokens.size ());
      slice.logits = logits.data ();
      context->forward ({&slice, 1});
      for (size_t i = 0; i < slice.tokens.size (); ++i, ++loss.tokens)
        loss.nats +=
            negative_log_likelihood (std::span (logits).subspan (i * vocab, vocab), tokens[at + i + 1]);
    }
  }
  return loss;
}

} // namespace millrace::bench
