// OpenAI POST /v1/embeddings
#include "engine/api/dialects.hpp"
#include "engine/api/json_append.hpp"

#include <climits>

namespace millrace
{

namespace
{

constexpr size_t kMaxInputs = 2048;

} // namespace

void
read_openai_embedding (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  static constexpr std::string_view kFormats[] = {"float", "base64"};
  static constexpr std::string_view kPoolings[] = {"last", "mean", "cls"};
  read_model (body, limits, out.model);
  std::vector<std::string> texts;
  const std::vector<std::string> inputs = read_inputs (body, "input", kMaxInputs, texts);
  for (size_t i = 0; i < texts.size (); i++) {
    if (texts[i].empty ())
      body.refuse (texts.size () > 1 ? "input[" + std::to_string (i) + "]" : "input", "must not be empty");
  }
  out.base64 = body.word ("encoding_format", kFormats).value_or ("float") == "base64";
  std::string embed = "{\"pooling\":\"" + std::string (body.word ("pooling", kPoolings).value_or ("last"));
  embed += body.boolean ("normalize").value_or (true) ? "\",\"normalize\":true" : "\",\"normalize\":false";
  if (const auto dimensions = body.integer ("dimensions", 1, INT_MAX)) {
    embed += ",\"dimensions\":";
    append_integer (embed, *dimensions);
  }
  shared.add_json ("embed", embed + "}");
  shared.has_seed = false;
  read_service (body, shared);
  if (const auto user = body.string ("user"))
    out.user = *user;
  body.finish ();
  make_generations (inputs, shared, body, out);
}

} // namespace millrace
