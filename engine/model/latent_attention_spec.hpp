// Multi-head latent attention, as values. Part of architecture_spec.hpp.
//
// Source: DeepSeek-V2, arXiv 2405.04434, §2.1.
#pragma once

#include "engine/model/rope_spec.hpp"

#include <string>

namespace millrace
{

/// Tensors of one q projection, or of two with a norm between.
struct LatentAttentionTensors {
  std::string q;                  ///< [heads · (plain + rotated), hidden]; or:
  std::string q_a, q_a_norm, q_b; ///< [q_rank, hidden], [heads · (plain + rotated), q_rank]
  std::string kv_a, kv_a_norm;    ///< [kv_rank + rotated, hidden]
  std::string kv_b;               ///< [heads · (plain + value_dim), kv_rank]; or:
  std::string k_b,
      v_b;       ///< [heads, kv_rank, plain], which is each head's K transposed, [heads, value_dim, kv_rank]
  std::string o; ///< [hidden, heads · value_dim]
  std::string q_a_bias, kv_a_bias, o_bias;
};

/// Each position keeps a latent vector, of which all heads' keys and values are made, and one rotated key that they share:
///   score (head) = scale · (q_plain · (K (head) · latent) + q_rotated · key)
/// which is q_plain's product with K's transpose, then with the latent. So keys and values are never made: attention is of
/// one head with keys [key, latent] and the latent as value, and V (head) comes last.
struct LatentAttentionSpec {
  int heads = 0;
  int plain = 0;     ///< elements of a head's q and k that are not rotated
  int rotated = 0;   ///< those that are
  int value_dim = 0; ///< of a head
  int kv_rank = 0;
  int q_rank = 0; ///< 0: one projection
  double scale = 0;
  double norm_epsilon = 1e-6; ///< of the norms of latents
  bool neighbours = true;     ///< pairs (2 i, 2 i + 1) are rotated, not (i, i + rotated / 2)
  RopeSpec rope;
  LatentAttentionTensors tensors;
};

} // namespace millrace
