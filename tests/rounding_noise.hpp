// What rounding does to a model: its weights with noise whose effect on a product is that of the rounding of what they are
// multiplied with. And models that such an estimate can be made of.
#pragma once

#include "engine/backend/weight_roles.hpp"
#include "engine/model/config.hpp"
#include "engine/model/decoder.hpp"
#include "engine/model/model_files.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "tests/synthetic_model.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

namespace millrace::testing
{

/// A matrix that is multiplied with what is rounded for formats of codes, and what it is stored as.
struct Product {
  WeightRef weight;
  CodedMatrix::Form form;
  bool of_head; ///< a part of a tensor, multiplied with a part of what is rounded

  bool is_rounded () const { return form.codes || is_block_type (form.type); }
};

/// All of a model's matrices but those that are only looked up in and those that choose experts.
inline std::vector<Product>
products_of (const std::filesystem::path &path)
{
  const auto files = open_model_files (path);
  const WeightFiles &weights = files->weights ();
  const Program program = build_program (files->architecture (), weights);
  std::set<WeightId> ids, of_heads;
  for (const Op &op : program.ops) {
    if (const auto *linear = std::get_if<LinearOp> (&op))
      for (const LinearOp::Projection &projection : linear->projections)
        ids.insert (projection.weight);
    if (const auto *parts = std::get_if<PartsLinearOp> (&op))
      of_heads.insert (parts->weights.begin (), parts->weights.end ());
    if (const auto *experts = std::get_if<ExpertsOp> (&op))
      for (const ExpertsOp::Expert &expert : experts->experts)
        ids.insert ({expert.gate, expert.up, expert.down});
    if (const auto *head = std::get_if<HeadOp> (&op))
      ids.insert (head->weight);
  }
  ids.insert (of_heads.begin (), of_heads.end ());
  ids.erase (kNone);
  for (const WeightId router : router_weights (program))
    ids.erase (router);
  std::vector<Product> products;
  for (const WeightId id : ids) {
    const WeightRef &weight = program.weights[static_cast<size_t> (id)];
    CodedMatrix::Form form{{}, weights.find (weight.name)->dtype};
    if (const AffineTensor *affine = weights.affine (weight.name))
      form.codes = affine->codes;
    else if (const CodedMatrix *coded = weights.coded (weight.name))
      form = coded->form ();
    products.push_back ({weight, form, of_heads.contains (id)});
  }
  return products;
}

/// The error of an element that is rounded to 8 bits in a group, of the root of the group's mean square. A step is the largest
/// element / 127, and the error step / sqrt (12). The largest elements have what gated MLPs multiply with, products of two
/// values: of normal ones 4 times that root in groups of 32, and 7 times in the groups of 256 of super-blocks.
inline double
rounding_error (const Product &product)
{
  const double largest = dtype_block (product.form.type).elements > 32 ? 7 : 4;
  return product.is_rounded () ? largest / 127 / std::sqrt (12.0) : 0;
}

/// Adds noise to tensors of float32 where they lie in their files: for each, how much of the root of its mean square.
inline void
add_noise (const std::filesystem::path &path, const std::map<std::string, double> &noise, uint32_t seed)
{
  struct Place {
    std::filesystem::path file;
    std::streamoff offset;
    std::vector<float> values;
  };
  std::vector<Place> places;
  std::mt19937 random (seed);
  std::normal_distribution<float> normal;
  {
    const auto files = open_model_files (path);
    const WeightFiles &weights = files->weights ();
    for (const auto &[name, part] : noise) {
      const TensorView *tensor = weights.find (name);
      if (!tensor || tensor->dtype != DType::kF32)
        throw std::runtime_error (name + " is no tensor of float32");
      Place place{weights.file_of (name), tensor->data.data () - weights.mapping_of (name).data (), {}};
      place.values.resize (static_cast<size_t> (tensor->element_count ()));
      std::memcpy (place.values.data (), tensor->data.data (), tensor->data.size ());
      double power = 0;
      for (const float value : place.values)
        power += value * static_cast<double> (value);
      const auto deviation =
          static_cast<float> (part * std::sqrt (power / static_cast<double> (place.values.size ())));
      for (float &value : place.values)
        value += deviation * normal (random);
      places.push_back (std::move (place));
    }
  }
  for (const Place &place : places) {
    std::fstream file (place.file, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp (place.offset);
    file.write (reinterpret_cast<const char *> (place.values.data ()),
                static_cast<std::streamsize> (place.values.size () * sizeof (float)));
    if (!file.flush ())
      throw std::runtime_error ("cannot write " + place.file.string ());
  }
}

/// Writes to `to` the model in `from` as one in which a small error has a small effect: all experts are chosen, and norms
/// divide by no less than a third. Otherwise there are steps: which experts are chosen, and the sign of what is nearly nothing,
/// which is all that a norm leaves of it. (A recurrent head's first output is its value times query · key: a norm of that is
/// the value's, with the sign of query · key.) How often a step is taken by accident no noise tells.
inline void
write_smooth_model (const std::filesystem::path &from, const std::filesystem::path &to)
{
  std::ifstream stream (from / "config.json");
  std::string config{std::istreambuf_iterator<char> (stream), {}};
  const auto set = [&] (const std::string &keys, const std::string &value) {
    const std::regex number ("\"(" + keys + ")\": *[-+.0-9eE]+");
    config = std::regex_replace (config, number, "\"$1\": " + value);
  };
  for (const LayerSpec &layer : load_architecture (from / "config.json").layers)
    if (const auto *moe = std::get_if<MoeSpec> (&layer.channel)) {
      set ("num_experts_per_tok|top_k_experts", std::to_string (moe->experts));
      set ("topk_group", std::to_string (moe->routing.groups));
    }
  set ("rms_norm_eps|layer_norm_epsilon", "0.1");
  std::filesystem::create_directory (to);
  write_file (to / "config.json", config);
  std::filesystem::create_symlink (std::filesystem::absolute (from / "model.safetensors"),
                                   to / "model.safetensors");
}

} // namespace millrace::testing
