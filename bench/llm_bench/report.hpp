// Results of llm-bench, as a Markdown table that grows with every case, or as JSON at the end.
#pragma once

#include "bench/llm_bench/speed_test.hpp"
#include "bench/roofs.hpp"

#include <span>
#include <string>
#include <vector>

namespace millrace::bench
{

struct PeerResult {
  std::string command;
  std::vector<double> rates;  ///< tokens a second; empty: the peer has no such test
  std::vector<double> ratios; ///< ours / theirs of neighbouring repetitions
  bool failed = false;
};

struct Result {
  TestCase test;
  std::vector<double> rates; ///< tokens a second, of each repetition
  double gb_per_s = 0;       ///< at the median rate
  std::vector<double>
      roof_shares; ///< of each repetition: its GB/s, of what its threads read in between; empty: not measured
  Roofs roofs;     ///< of the case's threads; zeros: not measured
  std::vector<PeerResult> peers;
};

std::string test_name (const TestCase &test); ///< "pp512", "tg128 @ d4096"

void print_roofs (std::span<const Roofs> roofs, bool json);
void print_table_header (const std::string &model, const Model &opened, std::span<const std::string> peers);
void print_table_row (const Result &result);
/// An array with the keys that llama-bench prints, and more.
void print_json (const std::string &model, const std::string &description, std::span<const Result> results);

} // namespace millrace::bench
