// The merges of SentencePiece's byte pair encoding: any two neighbours whose text together is a piece, the one with the
// highest score first.
#pragma once

#include "engine/tokenizer/bpe.hpp"

#include <span>

namespace millrace
{

/// All merges that give a token of the model's vocabulary, with the place of its score among all scores as rank. Parts are
/// tokens too, or characters (Bpe::symbol_of). `scores` by id, finite. Linear in the bytes of the vocabulary.
MergeTable score_merges (const Vocabulary &vocabulary, std::span<const float> scores);

} // namespace millrace
