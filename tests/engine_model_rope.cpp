// labels: unit
// Inverse frequencies of rotary embeddings: the reference's float32 values, bit for bit.
//
// Expected bits: the formulas of transformers' modeling_rope_utils evaluated step by step in float32
// (every step computed in double and rounded once) by a script independent of the engine.
#include "engine/model/architecture_spec.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <vector>

namespace
{

using millrace::RopeSpec;

std::vector<uint32_t>
bits_of (const std::vector<float> &values)
{
  std::vector<uint32_t> result;
  for (const float value : values)
    result.push_back (std::bit_cast<uint32_t> (value));
  return result;
}

std::vector<uint32_t>
bits (const RopeSpec &rope)
{
  return bits_of (millrace::rope_inverse_frequencies (rope));
}

TEST (rope, default_frequencies_are_those_of_the_reference)
{
  const RopeSpec rope{.dimensions = 32, .theta = 1e6};
  EXPECT_EQ (bits (rope),
             (std::vector<uint32_t>{0x3f800000, 0x3ed7e89b, 0x3e361887, 0x3d99940d, 0x3d0186e3, 0x3c5a7bf2,
                                    0x3bb8449c, 0x3b1b690d, 0x3a83126f, 0x39dd1725, 0x393a7753, 0x389d43a4,
                                    0x3804a2b2, 0x375fba4f, 0x36bcb0c1, 0x361f23e4}));
}

TEST (rope, linear_scaling_divides_every_frequency)
{
  const RopeSpec rope{.dimensions = 16, .scaling = RopeSpec::Scaling::kLinear, .factor = 3};
  EXPECT_EQ (bits (rope), (std::vector<uint32_t>{0x3eaaaaab, 0x3dd7e0cf, 0x3d088889, 0x3c2cb3d9, 0x3b5a740d,
                                                 0x3a8a297b, 0x39aec33f, 0x38dd0f2b}));
}

TEST (rope, longrope_stretches_wavelengths_by_the_list_of_short_or_of_long_sequences)
{
  const RopeSpec rope{.dimensions = 8,
                      .scaling = RopeSpec::Scaling::kLongRope,
                      .original_max_positions = 64,
                      .frequency_factors = {1.0f, 1.05f, 1.5f, 2.0f},
                      .long_frequency_factors = {1.1f, 3.0f, 5.5f, 9.0f}};
  EXPECT_EQ (bits (rope), (std::vector<uint32_t>{0x3f800000, 0x3dc30c31, 0x3bda740e, 0x3a03126f}));
  EXPECT_EQ (bits_of (millrace::rope_long_inverse_frequencies (rope)),
             (std::vector<uint32_t>{0x3f68ba2e, 0x3d088889, 0x3aee500f, 0x38e90453}));
  EXPECT_TRUE (millrace::rope_long_inverse_frequencies ({.dimensions = 8}).empty ());
}

TEST (rope, proportional_scaling_turns_the_first_pairs_of_the_whole_head)
{
  const RopeSpec rope{
      .dimensions = 16, .theta = 1e6, .scaling = RopeSpec::Scaling::kProportional, .factor = 2, .rotated = 6};
  EXPECT_EQ (bits (rope), (std::vector<uint32_t>{0x3f000000, 0x3db61887, 0x3c8186e3, 0x00000000, 0x00000000,
                                                 0x00000000, 0x00000000, 0x00000000}));
}

TEST (rope, sequences_that_stay_short_are_a_variant_of_longrope_only)
{
  millrace::ArchitectureSpec spec;
  spec.layers.resize (2);
  EXPECT_EQ (kv_variant (spec, 10), 0);
  RopeSpec &rope = spec.layers[1].mixer.emplace<millrace::AttentionSpec> ().rope;
  rope.original_max_positions = 64;
  EXPECT_EQ (kv_variant (spec, 10), 0);
  rope.scaling = RopeSpec::Scaling::kLongRope;
  EXPECT_EQ (kv_variant (spec, 64), 1);
  EXPECT_EQ (kv_variant (spec, 65), 0);
}

TEST (rope, factors_divide_one_by_one_whatever_the_scaling)
{
  for (const auto scaling : {RopeSpec::Scaling::kNone, RopeSpec::Scaling::kLinear}) {
    RopeSpec rope{.dimensions = 6, .scaling = scaling, .factor = 3};
    const auto plain = millrace::rope_inverse_frequencies (rope);
    rope.frequency_factors = {1, 8, 0.3f};
    EXPECT_EQ (millrace::rope_inverse_frequencies (rope),
               (std::vector<float>{plain[0], plain[1] / 8, plain[2] / 0.3f}));
  }
}

TEST (rope, llama3_scaling_keeps_high_blends_middle_and_divides_low_frequencies)
{
  const RopeSpec rope{.dimensions = 32,
                      .theta = 5e5,
                      .scaling = RopeSpec::Scaling::kLlama3,
                      .factor = 8,
                      .low_freq_factor = 1,
                      .high_freq_factor = 4,
                      .original_max_positions = 64};
  EXPECT_EQ (bits (rope),
             (std::vector<uint32_t>{0x3f800000, 0x3ee177bc, 0x3da29e0c, 0x3c2ee4ad, 0x3b9a08c8, 0x3b07a9c3,
                                    0x3a6ef74f, 0x39d27720, 0x39395d21, 0x38a3418d, 0x380fc8f8, 0x377d45c3,
                                    0x36df10c4, 0x36447610, 0x35ad07a7, 0x351864a7}));
}

TEST (rope, yarn_scaling_ramps_within_whole_dimensions)
{
  const RopeSpec rope{.dimensions = 32,
                      .theta = 1e6,
                      .scaling = RopeSpec::Scaling::kYarn,
                      .factor = 4,
                      .original_max_positions = 128};
  EXPECT_EQ (bits (rope),
             (std::vector<uint32_t>{0x3f800000, 0x3eaf6cfe, 0x3de39ea9, 0x3d06618c, 0x3c0186e3, 0x3b5a7bf2,
                                    0x3ab8449c, 0x3a1b690d, 0x3983126f, 0x38dd1725, 0x383a7753, 0x379d43a4,
                                    0x3704a2b2, 0x365fba4f, 0x35bcb0c1, 0x351f23e4}));
}

TEST (rope, yarn_scaling_rounds_its_range_outwards)
{
  const RopeSpec rope{.dimensions = 64,
                      .theta = 1e4,
                      .scaling = RopeSpec::Scaling::kYarn,
                      .factor = 8,
                      .original_max_positions = 2048};
  EXPECT_EQ (bits (rope),
             (std::vector<uint32_t>{0x3f800000, 0x3f3ff911, 0x3f0ff59a, 0x3ed7e89b, 0x3ea1e89b, 0x3e72d423,
                                    0x3e361887, 0x3e088d77, 0x3dcccccd, 0x3d8f3dc7, 0x3d47540f, 0x3d09d96e,
                                    0x3cbd4efd, 0x3c80e2cf, 0x3c2db0ff, 0x3be716c9, 0x3b973ca6, 0x3b41beb7,
                                    0x3af0f742, 0x3a8f7f05, 0x3a1f6af0, 0x399b690d, 0x39691528, 0x392ec98e,
                                    0x3903126f, 0x38c4948c, 0x38936a16, 0x385d1725, 0x3825cb60, 0x37f8a815,
                                    0x37ba7753, 0x378bd472}));
}

TEST (rope, yarn_scaling_with_an_empty_range_is_a_step)
{
  const RopeSpec rope{.dimensions = 16,
                      .theta = 1e4,
                      .scaling = RopeSpec::Scaling::kYarn,
                      .factor = 8,
                      .original_max_positions = 6};
  EXPECT_EQ (bits (rope), (std::vector<uint32_t>{0x3f800000, 0x3d21e89b, 0x3c4ccccd, 0x3b8186e3, 0x3aa3d70a,
                                                 0x39cf3e38, 0x3903126f, 0x3825cb60}));
}

TEST (rope, yarn_scaling_ramps_within_fractional_dimensions_when_not_truncated)
{
  const RopeSpec rope{.dimensions = 64,
                      .theta = 1e4,
                      .scaling = RopeSpec::Scaling::kYarn,
                      .factor = 8,
                      .truncate = false,
                      .original_max_positions = 2048};
  EXPECT_EQ (bits (rope),
             (std::vector<uint32_t>{0x3f800000, 0x3f3ff911, 0x3f0ff59a, 0x3ed7e89b, 0x3ea1e89b, 0x3e72d423,
                                    0x3e361887, 0x3e088d77, 0x3dcccccd, 0x3d8f21ea, 0x3d45ee3e, 0x3d07e01f,
                                    0x3cb8f5b4, 0x3c792adc, 0x3c25ad6a, 0x3bd8ba4f, 0x3b8ab619, 0x3b2c5347,
                                    0x3acce3f9, 0x3a62f65f, 0x39dbeadd, 0x399b690d, 0x39691528, 0x392ec98e,
                                    0x3903126f, 0x38c4948c, 0x38936a16, 0x385d1725, 0x3825cb60, 0x37f8a815,
                                    0x37ba7753, 0x378bd472}));
}

} // namespace
