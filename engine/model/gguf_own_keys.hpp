// What the metadata of one GGUF architecture mean beside those that all have.
//
// Private to engine/model. Each writes members that come before the common ones.
#pragma once

#include "engine/model/gguf_translation.hpp"

namespace millrace
{

// gguf_attention_keys.cpp
void gemma2_keys (GgufTranslation &translation);
void gemma3_keys (GgufTranslation &translation);
void gemma4_keys (GgufTranslation &translation);
void llama_keys (GgufTranslation &translation);
void olmo2_keys (GgufTranslation &translation);

// gguf_expert_keys.cpp
void deepseek2_keys (GgufTranslation &translation);
void glm4moe_keys (GgufTranslation &translation);
void gpt_oss_keys (GgufTranslation &translation);
void qwen3moe_keys (GgufTranslation &translation);
/// expert_count, expert_used_count and expert_feed_forward_length under these names.
void expert_counts (GgufTranslation &translation, const char *experts, const char *chosen,
                    const char *intermediate);
/// How DeepSeek and its like choose experts.
void expert_choice (GgufTranslation &translation);

// gguf_hybrid_keys.cpp
void gated_delta_keys (GgufTranslation &translation);
void nemotron_h_keys (GgufTranslation &translation);

} // namespace millrace
