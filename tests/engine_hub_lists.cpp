// labels: unit
//
// What a hub says is checked before anything is done with it, and which files a download takes.
#include "engine/error.hpp"
#include "engine/hub/selection.hpp"
#include "engine/hub/target.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

using namespace millrace;

namespace
{

constexpr const char *kUrl = "http://hub/api";
const std::string kSha256 (64, 'a'), kSha1 (40, 'b');

std::string
refusal (const std::function<void ()> &call)
{
  try {
    call ();
  } catch (const std::exception &error) {
    return error.what ();
  }
  return "nothing is refused";
}

HubListing
listing (std::initializer_list<const char *> paths)
{
  HubListing listing;
  for (const char *path : paths)
    listing.files.push_back ({path, 1000, kSha256, ""});
  return listing;
}

std::vector<std::string>
names (const std::vector<HubFile> &files)
{
  std::vector<std::string> names;
  for (const HubFile &file : files)
    names.push_back (file.path);
  return names;
}

using Names = std::vector<std::string>;

TEST (HubTarget, names_a_repository_and_files)
{
  EXPECT_EQ (parse_hub_target ("owner/name").repository, "owner/name");
  EXPECT_EQ (parse_hub_target ("owner/name").files, "");
  const HubTarget target = parse_hub_target ("Some-One/a.b_c-1:sub/x:y.gguf");
  EXPECT_EQ (target.repository, "Some-One/a.b_c-1");
  EXPECT_EQ (target.files, "sub/x:y.gguf");
  for (const char *wrong : {"", "name", "/name", "owner/", "a/b/c", "../name", "owner/..", "a..b/c",
                            ".hidden/a", "owner/na me", "owner/n%41me", "owner/name?x", "owner/name#x",
                            "owner/na\nme", "-o/name", "owner/name:", "http://hub/owner/name"})
    EXPECT_THROW (parse_hub_target (wrong), std::invalid_argument) << wrong;
}

TEST (HubTarget, paths_stay_below_their_folder)
{
  for (const char *good :
       {"config.json", "sub/model.gguf", ".gitattributes", "a b", "naïve.json", "a..b", "x.part.json"})
    EXPECT_TRUE (is_safe_hub_path (good)) << good;
  for (const std::string &wrong :
       {std::string (), std::string ("/etc/passwd"), std::string ("../x"), std::string ("a/../x"),
        std::string ("a/.."), std::string ("./x"), std::string ("a//b"), std::string ("a/"),
        std::string ("a\\b"), std::string ("a\nb"), std::string ("a\0b", 3), std::string ("\x7f"),
        std::string (300, 'x'), std::string ("model.gguf.part"), std::string ("model.gguf.part.ranges"),
        std::string (700, 'a') + "/" + std::string (700, 'a')})
    EXPECT_FALSE (is_safe_hub_path (wrong)) << wrong;
}

TEST (HubTarget, parts_of_addresses_are_escaped)
{
  EXPECT_EQ (url_escaped ("a b/ü?#%", true), "a%20b/%C3%BC%3F%23%25");
  EXPECT_EQ (url_escaped ("refs/pr/1", false), "refs%2Fpr%2F1");
  EXPECT_TRUE (is_hub_revision ("refs/pr/1"));
  for (const char *wrong : {"", "a/../b", "a b", "a?b", "/a", "a/"})
    EXPECT_FALSE (is_hub_revision (wrong)) << wrong;
}

TEST (HubListing, has_sizes_and_digests_of_both_kinds_of_files)
{
  const HubListing found = parse_hub_revision (
      kUrl,
      R"({"sha":")" + kSha1 + R"(","siblings":[{"rfilename":"config.json","size":12,"blobId":")" + kSha1 +
          R"("},{"rfilename":"w.safetensors","size":5,"blobId":"x","lfs":{"sha256":")" + kSha256 +
          R"(","size":4096,"pointerSize":135}},{"rfilename":"config.json","size":13}]})",
      "main");
  EXPECT_EQ (found.commit, kSha1);
  ASSERT_EQ (found.files.size (), 2u); // a name counts once
  EXPECT_EQ (found.files[0].size, 12u);
  EXPECT_EQ (found.files[0].blob_sha1, kSha1);
  EXPECT_EQ (found.files[0].sha256, "");
  EXPECT_EQ (found.files[1].size, 4096u);
  EXPECT_EQ (found.files[1].sha256, kSha256);
  EXPECT_EQ (found.files[1].blob_sha1, "");
  EXPECT_FALSE (found.is_incomplete ());
}

TEST (HubListing, is_completed_by_trees)
{
  HubListing found = parse_hub_revision (
      kUrl, R"({"sha":"no digest","siblings":[{"rfilename":"a"},{"rfilename":"b"},{"rfilename":"c"}]})",
      "v1");
  EXPECT_EQ (found.commit, "v1");
  EXPECT_TRUE (found.is_incomplete ());
  add_hub_tree (kUrl,
                R"([{"type":"directory","path":"a","oid":"1"},{"type":"file","path":"b","size":3,"oid":")" +
                    kSha1 + R"("},{"type":"file","path":"new","size":3,"oid":"x"}])",
                found);
  add_hub_tree (
      kUrl, R"([{"type":"file","path":"a","size":1,"oid":"x","lfs":{"oid":")" + kSha256 + R"(","size":9}}])",
      found);
  EXPECT_EQ (found.files[0].size, 9u);
  EXPECT_EQ (found.files[0].sha256, kSha256);
  EXPECT_EQ (found.files[1].size, 3u);
  EXPECT_EQ (found.files[1].blob_sha1, kSha1);
  EXPECT_EQ (found.files[2].size, std::nullopt);
  EXPECT_EQ (found.files.size (), 3u);
  EXPECT_TRUE (found.is_incomplete ());
}

TEST (HubListing, wrong_answers_are_named)
{
  const auto revision = [] (const std::string &json) {
    return refusal ([&] { parse_hub_revision (kUrl, json, "main"); });
  };
  for (const char *json :
       {"", "{", "[]", "null", "{}", R"({"siblings":{}})", R"({"siblings":[1]})",
        R"({"siblings":[{"rfilename":1}]})", R"({"siblings":[{"rfilename":""}]})",
        R"({"siblings":[{"rfilename":"a","size":-1}]})", R"({"siblings":[{"rfilename":"a","size":1.5}]})",
        R"({"siblings":[{"rfilename":"a","size":9000000000000000000}]})",
        R"({"siblings":[{"rfilename":"a","lfs":{"size":"1"}}]})"})
    EXPECT_NE (revision (json).find (kUrl), std::string::npos) << json << ": " << revision (json);
  HubListing found;
  for (const char *json :
       {"", "{}", "[1]", R"([{"type":"file"}])", R"([{"type":"file","path":"a","size":"x"}])"}) {
    const std::string message = refusal ([&] { add_hub_tree (kUrl, json, found); });
    EXPECT_NE (message.find (kUrl), std::string::npos) << json << ": " << message;
  }
  for (const char *json : {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})"}) {
    const std::string message = refusal ([&] { parse_hub_index (kUrl, json); });
    EXPECT_NE (message.find (kUrl), std::string::npos) << json << ": " << message;
  }
}

TEST (HubSelection, takes_what_is_read_and_one_set_of_weights)
{
  const auto needed = [] (const HubListing &files, const Names &shards = {}) {
    return names (needed_hub_files (files, shards));
  };
  const HubListing single = listing ({"README.md", "config.json", "model.safetensors",
                                      "model.safetensors.index.json", "tokenizer.json", "pytorch_model.bin",
                                      "model.gguf", "onnx/config.json", "tokenizer_config.json"});
  EXPECT_FALSE (hub_needs_index (single));
  EXPECT_EQ (needed (single),
             (Names{"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}));

  const HubListing sharded =
      listing ({"config.json", "model.safetensors.index.json", "a-00001-of-00002.safetensors",
                "a-00002-of-00002.safetensors", "consolidated.safetensors", "model.gguf"});
  EXPECT_TRUE (hub_needs_index (sharded));
  EXPECT_EQ (needed (sharded, {"a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors"}),
             (Names{"config.json", "model.safetensors.index.json", "a-00001-of-00002.safetensors",
                    "a-00002-of-00002.safetensors"}));
  EXPECT_NE (refusal ([&] { needed (sharded, {"../../x"}); }).find ("../../x"), std::string::npos);

  const HubListing parts =
      listing ({"config.json", "m-Q8_0-00002-of-00002.gguf", "README.md", "m-Q8_0-00001-of-00002.gguf"});
  EXPECT_EQ (needed (parts), (Names{"m-Q8_0-00002-of-00002.gguf", "m-Q8_0-00001-of-00002.gguf"}));
  const std::string several = refusal ([&] { needed (listing ({"a-Q4_K_M.gguf", "a-Q8_0.gguf"})); });
  EXPECT_NE (several.find ("a-Q4_K_M.gguf"), std::string::npos) << several;
  EXPECT_NE (refusal ([&] { needed (listing ({"pytorch_model.bin"})); }).find ("pytorch_model.bin"),
             std::string::npos);
}

TEST (HubSelection, takes_what_is_wished)
{
  const HubListing files =
      listing ({"config.json", "a-Q4_K_M.gguf", "a-Q4_K_S.gguf", "a-Q8_0-00001-of-00002.gguf",
                "a-Q8_0-00002-of-00002.gguf", "sub/config.json", "b[1].json"});
  const auto wished = [&] (const char *wish) { return names (wished_hub_files (files, wish)); };
  EXPECT_EQ (wished ("config.json"), Names{"config.json"});
  EXPECT_EQ (wished ("*config.json"), (Names{"config.json", "sub/config.json"}));
  EXPECT_EQ (wished ("b[1].json"), Names{"b[1].json"}); // a name before a pattern
  EXPECT_EQ (wished ("q4_k_m"), Names{"a-Q4_K_M.gguf"});
  EXPECT_EQ (wished ("Q8_0"), (Names{"a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"}));
  EXPECT_EQ (wished ("a-Q8_0-00001-of-00002.gguf"),
             (Names{"a-Q8_0-00001-of-00002.gguf", "a-Q8_0-00002-of-00002.gguf"}));
  EXPECT_NE (refusal ([&] { wished ("Q4_K"); }).find ("a-Q4_K_S.gguf"), std::string::npos);
  EXPECT_NE (refusal ([&] { wished ("Q5_K"); }).find ("a-Q4_K_M.gguf"), std::string::npos);
}

} // namespace
