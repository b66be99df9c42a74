#include "bench/llm_bench/report.hpp"

#include "bench/json_object.hpp"
#include "bench/measure.hpp"

#include <cmath>
#include <cstdio>
#include <numeric>

namespace millrace::bench
{

namespace
{

double
mean (std::span<const double> values)
{
  return std::accumulate (values.begin (), values.end (), 0.0) / static_cast<double> (values.size ());
}

double
deviation (std::span<const double> values)
{
  if (values.size () < 2)
    return 0;
  double squares = 0;
  for (const double value : values)
    squares += (value - mean (values)) * (value - mean (values));
  return std::sqrt (squares / static_cast<double> (values.size () - 1));
}

void
add_rates (JsonObject &object, std::span<const double> rates)
{
  const std::vector<double> values (rates.begin (), rates.end ());
  object.figure ("avg_ts", mean (rates));
  object.figure ("stddev_ts", deviation (rates));
  object.figure ("median_ts", median (values));
  object.figure ("min_ts", quantile (values, 0));
  object.figure ("max_ts", quantile (values, 1));
  object.raw ("samples_ts", json_list (rates));
}

std::string
json_of (const Roofs &roofs)
{
  JsonObject object;
  object.figure ("n_threads", roofs.threads);
  object.figure ("read_gb_per_s", roofs.read_gb_per_s);
  object.figure ("int8_gmac_per_s", roofs.int8_gmac_per_s);
  if (roofs.int8_tiles_gmac_per_s > 0)
    object.figure ("int8_tiles_gmac_per_s", roofs.int8_tiles_gmac_per_s);
  object.figure ("float32_gmac_per_s", roofs.float32_gmac_per_s);
  return object.end ();
}

std::string
json_of (const PeerResult &peer)
{
  JsonObject object;
  object.text ("command", peer.command);
  if (!peer.rates.empty ()) {
    add_rates (object, peer.rates);
    object.figure ("median_ratio", median (peer.ratios));
    object.raw ("ratios", json_list (std::span<const double> (peer.ratios)));
  }
  return object.end ();
}

std::string
json_of (const std::string &model, const std::string &description, const Result &result)
{
  const TestCase &test = result.test;
  const bool prompt = test.kind == TestCase::Kind::kPrompt;
  JsonObject object;
  object.text ("model_filename", model);
  object.text ("backend", description);
  object.text ("test", test_name (test));
  object.figure ("n_prompt", prompt ? test.tokens : 0);
  object.figure ("n_gen", prompt ? 0 : test.tokens);
  object.figure ("n_depth", test.depth);
  object.figure ("n_streams", test.streams);
  object.figure ("n_threads", test.threads);
  object.figure ("n_ubatch", test.pass_tokens);
  object.text ("type_k", kv_type_name (test.kv_type));
  object.text ("type_v", kv_type_name (test.kv_type));
  add_rates (object, result.rates);
  if (!prompt)
    object.figure ("gb_per_s", result.gb_per_s);
  if (!result.roof_shares.empty ())
    object.figure ("roof_share", median (result.roof_shares));
  if (result.roofs.threads > 0)
    object.raw ("roofs", json_of (result.roofs));
  std::string peers;
  for (const PeerResult &peer : result.peers)
    peers += (peers.empty () ? "" : ", ") + json_of (peer);
  object.raw ("peers", "[" + peers + "]");
  return object.end ();
}

std::string
tiles_text (const Roofs &roofs)
{
  char text[32] = "–";
  if (roofs.int8_tiles_gmac_per_s > 0)
    std::snprintf (text, sizeof text, "%.1f", roofs.int8_tiles_gmac_per_s);
  return text;
}

} // namespace

std::string
test_name (const TestCase &test)
{
  std::string name = (test.kind == TestCase::Kind::kPrompt ? "pp" : "tg") + std::to_string (test.tokens);
  return test.depth > 0 ? name + " @ d" + std::to_string (test.depth) : name;
}

void
print_roofs (std::span<const Roofs> roofs, bool json)
{
  if (!json)
    std::printf ("| threads | reading, GB/s | int8, GMAC/s | int8 tiles, GMAC/s | float32, GMAC/s |\n"
                 "|---:|---:|---:|---:|---:|\n");
  std::string array;
  for (const Roofs &of : roofs) {
    array += (array.empty () ? "" : ",\n") + json_of (of);
    if (!json)
      std::printf ("| %d | %.1f | %.1f | %s | %.1f |\n", of.threads, of.read_gb_per_s, of.int8_gmac_per_s,
                   tiles_text (of).c_str (), of.float32_gmac_per_s);
  }
  if (json)
    std::printf ("[%s]\n", array.c_str ());
}

void
print_table_header (const std::string &model, const Model &opened, std::span<const std::string> peers)
{
  std::printf ("\n%s: %s, %.1f MB of weights\n", model.c_str (), opened.compiled->description ().c_str (),
               static_cast<double> (opened.compiled->weight_bytes ()) / 1e6);
  for (size_t i = 0; i < peers.size (); i++)
    std::printf ("peer %zu: %s\n", i + 1, peers[i].c_str ());
  std::string titles = "\n| test | threads | streams | KV | tokens/s | min | max | GB/s | of roof |";
  std::string rule = "|---|---:|---:|---|---:|---:|---:|---:|---:|";
  for (size_t i = 0; i < peers.size (); i++) {
    const std::string peer = "peer " + std::to_string (i + 1);
    titles += " " + peer + ", tokens/s | ours / " + peer + " | min | max |";
    rule += "---:|---:|---:|---:|";
  }
  std::printf ("%s\n%s\n", titles.c_str (), rule.c_str ());
  std::fflush (stdout);
}

void
print_table_row (const Result &result)
{
  const TestCase &test = result.test;
  const bool answer = test.kind == TestCase::Kind::kAnswer;
  const double roof = result.roofs.read_gb_per_s;
  std::string row = "| " + test_name (test) + " | " + std::to_string (test.threads) + " | " +
                    std::to_string (test.streams) + " | " + kv_type_name (test.kv_type);
  for (const double q : {0.5, 0.0, 1.0})
    row += " | " + number (quantile (result.rates, q), "%.2f");
  row += answer ? " | " + number (result.gb_per_s, "%.1f") : " | –";
  if (!result.roof_shares.empty ())
    row += " | " + number (100 * median (result.roof_shares), "%.0f %%");
  else
    row += answer && roof > 0 ? " | " + number (100 * result.gb_per_s / roof, "%.0f %%") : " | –";
  for (const PeerResult &peer : result.peers) {
    if (peer.rates.empty ()) {
      row += " | – | – | – | –";
      continue;
    }
    row += " | " + number (median (peer.rates), "%.2f");
    for (const double q : {0.5, 0.0, 1.0})
      row += " | " + number (quantile (peer.ratios, q), "%.3f");
  }
  std::printf ("%s |\n", row.c_str ());
  std::fflush (stdout);
}

void
print_json (const std::string &model, const std::string &description, std::span<const Result> results)
{
  std::string array;
  for (const Result &result : results)
    array += (array.empty () ? "" : ",\n ") + json_of (model, description, result);
  std::printf ("[%s]\n", array.c_str ());
}

} // namespace millrace::bench
