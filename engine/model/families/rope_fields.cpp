// RoPE in a config.json.
#include "engine/model/families/rope_fields.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

constexpr int64_t kMaxPositions = 1 << 24;
constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;
constexpr const char *kOriginal = "original_max_position_embeddings";

void
read_llama3 (const JsonFields &fields, RopeSpec &rope)
{
  rope.scaling = RopeSpec::Scaling::kLlama3;
  rope.low_freq_factor = fields.number ("low_freq_factor", 1e-3, kMaxFactor);
  rope.high_freq_factor = fields.number ("high_freq_factor", 1e-3, kMaxFactor);
  if (rope.high_freq_factor <= rope.low_freq_factor)
    fields.fail ("high_freq_factor",
                 "is not above " + fields.called ("low_freq_factor") + "; correct the file");
}

/// mscale of the YaRN paper, §3.4: how much sharper attention gets with the length.
double
yarn_mscale (double factor, double mscale)
{
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log (factor) + 1.0;
}

void
read_yarn (const JsonFields &fields, RopeSpec &rope)
{
  rope.scaling = RopeSpec::Scaling::kYarn;
  rope.beta_fast = fields.number_or ("beta_fast", 1e-3, kMaxFactor, 32.0);
  rope.beta_slow = fields.number_or ("beta_slow", 1e-3, kMaxFactor, 1.0);
  if (rope.beta_fast <= rope.beta_slow)
    fields.fail ("beta_fast", "is not above " + fields.called ("beta_slow") + "; correct the file");
  rope.truncate = fields.boolean_or ("truncate", true);
  const double mscale = fields.number_or ("mscale", 0, 1000, 0);
  const double mscale_all_dim = fields.number_or ("mscale_all_dim", 0, 1000, 0);
  if (fields.has ("attention_factor"))
    rope.attention_factor = fields.number ("attention_factor", 1e-3, 1000);
  else if (mscale > 0 && mscale_all_dim > 0)
    rope.attention_factor = yarn_mscale (rope.factor, mscale) / yarn_mscale (rope.factor, mscale_all_dim);
  else
    rope.attention_factor = yarn_mscale (rope.factor, 1.0);
}

std::vector<float>
longrope_factors (const JsonFields &fields, const char *name, int pairs)
{
  const std::vector<double> factors = fields.numbers (name, 1e-6, kMaxFactor);
  if (factors.size () != static_cast<size_t> (pairs))
    fields.fail (name, "has " + std::to_string (factors.size ()) + " entries, expected " +
                           std::to_string (pairs) +
                           ", one for each pair of rotated elements; correct the file");
  return {factors.begin (), factors.end ()};
}

/// Source of the attention factor: LongRoPE, arXiv 2402.13753, as Phi-3's code has it.
void
read_longrope (const JsonFields &fields, RopeSpec &rope)
{
  rope.scaling = RopeSpec::Scaling::kLongRope;
  rope.frequency_factors = longrope_factors (fields, "short_factor", rope.pairs ());
  rope.long_frequency_factors = longrope_factors (fields, "long_factor", rope.pairs ());
  if (rope.original_max_positions < 2)
    fields.fail (kOriginal,
                 "is " + std::to_string (rope.original_max_positions) + ", expected more; correct the file");
  if (fields.has ("attention_factor"))
    rope.attention_factor = fields.number ("attention_factor", 1e-3, 1000);
  else if (rope.factor > 1)
    rope.attention_factor = std::sqrt (1 + std::log (rope.factor) / std::log (rope.original_max_positions));
}

/// The object that says it of these layers; none: plain fields of the file do.
std::optional<JsonFields>
parameters_of (const JsonFields &config, const RopeKind &kind)
{
  const char *name = config.has ("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const auto parameters = config.object (name);
  if (!parameters)
    return std::nullopt;
  if (!parameters->holds_objects ())
    return kind.scaled ? parameters : std::nullopt;
  if (!kind.layer_type)
    config.fail (name, "differs by kind of layer, which this family does not support; correct the file");
  const auto of_type = parameters->object (kind.layer_type);
  if (!of_type)
    parameters->fail (kind.layer_type, "is missing; correct the file or fetch it again");
  return of_type;
}

/// What partial_rotary_factor leaves of a head, in whole pairs.
void
read_dimensions (const JsonFields &config, const JsonFields &fields, int head_dim, bool proportional,
                 const RopeKind &kind, RopeSpec &rope)
{
  const JsonFields &at = fields.has ("partial_rotary_factor") ? fields : config;
  const double partial = at.number_or ("partial_rotary_factor", 0, 1, kind.default_partial);
  if (partial != 1 && !kind.partial)
    at.fail ("partial_rotary_factor", "is not supported for this family; remove it or set it to 1");
  rope.dimensions = proportional ? head_dim : static_cast<int> (head_dim * partial);
  // Of an odd number of dimensions the reference rotates one more, by frequencies of the odd number.
  rope.rotated =
      proportional ? 2 * static_cast<int> (std::floor (partial * head_dim / 2)) : 2 * rope.pairs ();
  if (rope.rotated < 2 || rope.rotated > head_dim)
    at.fail ("partial_rotary_factor",
             "leaves " + std::to_string (rope.rotated) + " of " + std::to_string (head_dim) +
                 " elements of a head to rotate, expected a pair at least; correct the file");
}

} // namespace

RopeSpec
rope_spec (const JsonFields &config, int head_dim, int max_positions, const RopeKind &kind)
{
  RopeSpec rope;
  const auto parameters = parameters_of (config, kind);
  const JsonFields &fields = parameters ? *parameters : config;
  const bool own_theta = parameters && fields.has ("rope_theta");
  const JsonFields &theta_at = own_theta ? fields : config;
  const char *theta_key = own_theta ? "rope_theta" : kind.theta_key;
  rope.theta = theta_at.number_or (theta_key, 1.0, kMaxTheta, kind.default_theta);
  if (rope.theta <= 1)
    theta_at.fail (theta_key, "is 1, expected more; correct the file");
  rope.original_max_positions = max_positions;

  const char *type_key = fields.has ("rope_type") ? "rope_type" : "type"; // the name before transformers 4.43
  std::string type = parameters ? fields.text_or (type_key, "default") : "default";
  if (type == "su") // the name before transformers 4.44
    type = "longrope";
  read_dimensions (config, fields, head_dim, type == "proportional", kind, rope);
  // "dynamic" changes sequences longer than max_position_embeddings, which are none here.
  if (type == "default" || type == "dynamic")
    return rope;
  if (type != "linear" && type != "llama3" && type != "yarn" && type != "longrope" && type != "proportional")
    fields.fail (type_key,
                 "\"" + type.substr (0, 80) +
                     "\" is not supported; supported are default, dynamic, linear, llama3, yarn, longrope "
                     "and proportional");
  const JsonFields &original_at = fields.has (kOriginal) ? fields : config;
  rope.original_max_positions = original_at.integer_or (kOriginal, 1, kMaxPositions, max_positions);
  if ((type == "yarn" || type == "longrope") && !fields.has ("factor"))
    rope.factor = std::max (1.0, static_cast<double> (max_positions) / rope.original_max_positions);
  else if (type == "proportional")
    rope.factor = fields.number_or ("factor", 1.0, kMaxFactor, 1.0);
  else
    rope.factor = fields.number ("factor", 1.0, kMaxFactor);
  if (type == "linear")
    rope.scaling = RopeSpec::Scaling::kLinear;
  else if (type == "proportional")
    rope.scaling = RopeSpec::Scaling::kProportional;
  else if (type == "llama3")
    read_llama3 (fields, rope);
  else if (type == "longrope")
    read_longrope (fields, rope);
  else
    read_yarn (fields, rope);
  return rope;
}

} // namespace millrace
