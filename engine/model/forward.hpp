// The two stages that run the model: prefill and verify.
#pragma once

namespace millrace
{

struct Step;

constexpr int kDeferBelow =
    64; ///< tokens: reading the weights once more would cost as much as computing them

/// Computes KV of each row's prompt chunk; rows with at most `defer_below` tokens are left to verify ().
void prefill (Step &step, int defer_below = 0);

/// Computes what prefill () left, then pending token and drafts of scored rows, and sets row.logits. Requests for an
/// embedding have no logits: their scored row ends the request.
void verify (Step &step);

} // namespace millrace
