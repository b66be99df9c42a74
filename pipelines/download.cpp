// millrace download: fetches a model from a hub.
#include "pipelines/commands.hpp"
#include "pipelines/hub_download.hpp"

#include "engine/error.hpp"
#include "engine/hub/selection.hpp"
#include "engine/hub/target.hpp"
#include "engine/size_text.hpp"
#include "engine/weights/tensor_entry.hpp"
#include "library/model_path.hpp"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <sys/statvfs.h>
#include <system_error>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr size_t kMostListBytes = 64 << 20; ///< of one answer of the hub's API
constexpr int kMostPages = 1000;
constexpr const char *kDefaultEndpoint = "https://huggingface.co";

struct Options {
  char *revision = nullptr, *endpoint = nullptr, *output = nullptr;
  int jobs = 4, timeout_s = 60, range_mib = 256, attempts = 6;
  double retry_delay_s = 1;
  gboolean all = FALSE, list = FALSE, quiet = FALSE;

  ~Options ()
  {
    g_free (revision);
    g_free (endpoint);
    g_free (output);
  }
};

const char *
first_of (const char *given, std::initializer_list<const char *> variables, const char *otherwise)
{
  if (given)
    return given;
  for (const char *variable : variables)
    if (const char *value = std::getenv (variable); value && *value)
      return value;
  return otherwise;
}

/// What goes wrong before any file is fetched, for main's one place of printing.
struct Problem : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// What the hub has and which of it is wanted.
class Catalogue
{
public:
  Catalogue (const DownloadOptions &options, Progress &progress)
      : options_ (options)
      , progress_ (progress)
      , client_ (options.endpoint, options.timeout_s)
  {
  }

  /// Throws Problem, LoadError, std::runtime_error.
  HubListing listing ()
  {
    const std::string api = options_.endpoint.url + "/api/models/" + options_.repository;
    const std::string url = api + "/revision/" + url_escaped (options_.revision, false) + "?blobs=true";
    HubListing listing = parse_hub_revision (url, text (url), options_.revision);
    if (!listing.is_incomplete ())
      return listing;
    std::string page = api + "/tree/" + url_escaped (listing.commit, false) + "?recursive=true", next;
    for (int i = 0; !page.empty () && i < kMostPages; ++i, page = next) {
      auto got = fetch (page, &next);
      if (std::holds_alternative<HubFailure> (got))
        break; // servers without it: the files' own headers will do
      add_hub_tree (page, std::get<std::string> (got), listing);
    }
    return listing;
  }

  std::vector<HubFile> wanted (const HubListing &listing, const std::string &files, bool all)
  {
    std::vector<HubFile> chosen;
    if (!files.empty ()) {
      chosen = wished_hub_files (listing, files);
    } else if (all) {
      chosen = listing.files;
    } else {
      std::vector<std::string> shards;
      if (hub_needs_index (listing)) {
        const std::string url = file_url (listing, std::string (kHubIndexFile));
        shards = parse_hub_index (url, text (url));
      }
      chosen = needed_hub_files (listing, shards);
    }
    for (HubFile &file : chosen) {
      if (!is_safe_hub_path (file.path))
        throw Problem (
            "the hub names a file \"" + printable (file.path) +
            "\", which is not taken: it could be written outside of the folder, or is no name of a "
            "file");
      if (!file.size || (file.sha256.empty () && file.blob_sha1.empty ()))
        ask_for_size (listing, file);
    }
    return chosen;
  }

private:
  std::string file_url (const HubListing &listing, const std::string &path) const
  {
    return options_.endpoint.url + "/" + options_.repository + "/resolve/" +
           url_escaped (listing.commit, false) + "/" + url_escaped (path, true);
  }

  std::variant<std::string, HubFailure> fetch (const std::string &url, std::string *next = nullptr)
  {
    return fetch_text (
        client_, url, kMostListBytes, options_.retry, nullptr,
        [this] (const std::string &line) { progress_.note (line); }, next);
  }

  std::string text (const std::string &url)
  {
    auto got = fetch (url);
    if (const auto *failure = std::get_if<HubFailure> (&got))
      throw Problem (failure->message);
    return std::get<std::string> (std::move (got));
  }

  /// Of a file that the lists do not say all of: by its own headers.
  void ask_for_size (const HubListing &listing, HubFile &file)
  {
    auto got = client_.get ({file_url (listing, file.path), "bytes=0-0"}, nullptr);
    if (const auto *failure = std::get_if<HubFailure> (&got))
      throw Problem (failure->message);
    const auto &response = std::get<HubResponse> (got);
    if (const auto size = response.whole ? response.whole : response.length; size && !file.size)
      file.size = size;
    constexpr size_t kSha256Digits = 64, kSha1Digits = 40;
    if (response.digest.size () == kSha256Digits)
      file.sha256 = response.digest;
    else if (response.digest.size () == kSha1Digits)
      file.blob_sha1 = response.digest;
    else
      progress_.note ("warning: the hub gives no digest of " + file.path + ", which will be taken unchecked");
    if (!file.size)
      throw Problem (response.url + ": the server does not say how long the file is");
  }

  const DownloadOptions &options_;
  Progress &progress_;
  HubClient client_;
};

/// Of the file system that `folder`, or the folder that it will be in, is on.
uint64_t
free_bytes (fs::path folder)
{
  struct statvfs space = {};
  folder = fs::absolute (folder);
  while (statvfs (folder.c_str (), &space) != 0) {
    if (!folder.has_relative_path ())
      return UINT64_MAX;
    folder = folder.parent_path ();
  }
  return static_cast<uint64_t> (space.f_bavail) * space.f_frsize;
}

fs::path
place_of (const Options &options, const HubTarget &target)
{
  if (options.output)
    return options.output;
  return downloaded_models () / target.repository;
}

void
print_list (const std::vector<HubFile> &files)
{
  for (const HubFile &file : files)
    std::printf ("%15llu  %s\n", static_cast<unsigned long long> (*file.size),
                 printable (file.path).c_str ());
}

int
download (const HubTarget &target, const Options &options, const DownloadOptions &how)
{
  Progress progress (options.quiet != FALSE, size_text);
  DownloadOptions pinned = how;
  std::vector<HubFile> files;
  {
    Catalogue catalogue (how, progress);
    const HubListing listing = catalogue.listing ();
    files = catalogue.wanted (listing, target.files, options.all != FALSE);
    pinned.revision = listing.commit;
  }
  if (options.list) {
    print_list (files);
    return 0;
  }
  const fs::path place = place_of (options, target);
  HubDownload transfer (pinned, progress);
  for (const HubFile &file : files)
    transfer.add (file, place);
  const uint64_t to_come = transfer.bytes_to_come (), space = free_bytes (place);
  if (to_come > space)
    throw Problem (place.string () + ": there is no room: " + size_text (to_come) + " are to come and " +
                   size_text (space) + " are free; make room, or name another place with --output");
  if (!options.quiet)
    progress.note (target.repository + " " + printable (pinned.revision).substr (0, 12) + ": " +
                   std::to_string (files.size ()) + (files.size () == 1 ? " file, " : " files, ") +
                   size_text (transfer.total_bytes ()) + ", " + size_text (to_come) + " to come");
  switch (transfer.run ()) {
  case HubDownload::Outcome::kStopped:
    progress.note ("stopped; the same command goes on from here");
    return 130;
  case HubDownload::Outcome::kFailed:
    progress.note ("error: " + transfer.problem () +
                   "\nWhat has come is kept; the same command goes on from here.");
    return 1;
  case HubDownload::Outcome::kDone:
    break;
  }
  std::printf ("%s\n", place.c_str ());
  return 0;
}

GOptionContext *
option_context (Options &options)
{
  const GOptionEntry entries[] = {
      {"revision", 0, 0, G_OPTION_ARG_STRING, &options.revision, "Branch, tag or commit (default: main)",
       "NAME"},
      {"endpoint", 0, 0, G_OPTION_ARG_STRING, &options.endpoint,
       "Address of the hub (or $MILLRACE_HUB_ENDPOINT, $HF_ENDPOINT; default: https://huggingface.co)",
       "URL"},
      {"output", 'o', 0, G_OPTION_ARG_FILENAME, &options.output,
       "Folder (default: $XDG_DATA_HOME/millrace/models/OWNER/NAME, where --model OWNER/NAME finds it)",
       "FOLDER"},
      {"jobs", 'j', 0, G_OPTION_ARG_INT, &options.jobs, "Connections at a time, 1 to 64 (default: 4)", "N"},
      {"all", 0, 0, G_OPTION_ARG_NONE, &options.all, "All files, not only those that are needed", nullptr},
      {"list", 'l', 0, G_OPTION_ARG_NONE, &options.list, "Print sizes and names of the files and exit",
       nullptr},
      {"quiet", 'q', 0, G_OPTION_ARG_NONE, &options.quiet, "No progress", nullptr},
      {"timeout", 0, 0, G_OPTION_ARG_INT, &options.timeout_s,
       "Seconds until a connection that brings nothing is given up (default: 60)", "S"},
      {"attempts", 0, 0, G_OPTION_ARG_INT, &options.attempts,
       "In a row that bring nothing, before it is given up (default: 6)", "N"},
      {"retry-delay", 0, 0, G_OPTION_ARG_DOUBLE, &options.retry_delay_s,
       "Seconds before the second attempt, doubled for each further one (default: 1)", "S"},
      {"range-size", 0, 0, G_OPTION_ARG_INT, &options.range_mib,
       "MiB of one request; larger files come by several at a time (default: 256)", "MIB"},
      {nullptr, 0, 0, G_OPTION_ARG_NONE, nullptr, nullptr, nullptr}};
  GOptionContext *context = g_option_context_new ("OWNER/NAME[:FILES] — fetch a model from a hub");
  g_option_context_set_summary (
      context,
      "Fetches what Millrace reads of a model: configuration, tokenizer, template and one set of weights\n"
      "(safetensors, else GGUF). FILES is a path in the repository, a pattern (\"*.json\") or what tells\n"
      "one GGUF file from the others (\"Q4_K_M\"). Prints the folder.");
  g_option_context_set_description (
      context,
      "Every file is compared with the digest that the hub has of it and gets its name when it is whole. "
      "What a\n"
      "stopped or failed download has brought stays in NAME.part and is taken up by the same command.\n\n"
      "A token for repositories that want one is taken from $MILLRACE_HUB_TOKEN or $HF_TOKEN; it is sent to "
      "the\n"
      "hub alone.\n\n"
      "Exit status: 0 all is there, 1 failed, 2 wrong usage, 130 stopped by a signal.\n");
  g_option_context_add_main_entries (context, entries, nullptr);
  return context;
}

/// What is wrong with the options; empty when nothing is.
std::string
read_options (const Options &options, DownloadOptions &how)
{
  const char *url = first_of (options.endpoint, {"MILLRACE_HUB_ENDPOINT", "HF_ENDPOINT"}, kDefaultEndpoint);
  const auto endpoint = hub_endpoint (url, first_of (nullptr, {"MILLRACE_HUB_TOKEN", "HF_TOKEN"}, ""));
  if (!endpoint)
    return "\"" + printable (url) + "\" is no address of a hub; it looks like " + kDefaultEndpoint;
  how.endpoint = *endpoint;
  how.revision = options.revision ? options.revision : "main";
  if (!is_hub_revision (how.revision))
    return "\"" + printable (how.revision) + "\" is no name of a revision";
  const auto outside = [] (double value, double least, double most) {
    return !(value >= least && value <= most);
  };
  if (outside (options.jobs, 1, 64))
    return "--jobs must be from 1 to 64";
  if (outside (options.timeout_s, 1, 3600) || outside (options.attempts, 1, 1000) ||
      outside (options.retry_delay_s, 0, 3600) || outside (options.range_mib, 1, 1 << 20))
    return "--timeout must be from 1 to 3600, --attempts from 1 to 1000, --retry-delay from 0 to 3600, "
           "--range-size "
           "from 1 to 1048576";
  how.jobs = options.jobs;
  how.timeout_s = static_cast<unsigned> (options.timeout_s);
  how.range_bytes = static_cast<uint64_t> (options.range_mib) << 20;
  how.retry.attempts = options.attempts;
  how.retry.first_delay_s = options.retry_delay_s;
  return {};
}

} // namespace

int
command_download (int argc, char **argv)
{
  Options options;
  GOptionContext *context = option_context (options);
  GError *error = nullptr;
  const bool parsed = g_option_context_parse (context, &argc, &argv, &error);
  g_option_context_free (context);
  DownloadOptions how;
  std::string problem = parsed ? read_options (options, how) : error->message;
  g_clear_error (&error);
  HubTarget target;
  try {
    if (problem.empty () && argc == 2)
      target = parse_hub_target (argv[1]);
    else if (problem.empty ())
      problem = "give one OWNER/NAME, or OWNER/NAME:FILES";
  } catch (const std::invalid_argument &wrong) {
    problem = wrong.what ();
  }
  if (!problem.empty ()) {
    std::fprintf (stderr, "error: %s\n", problem.c_str ());
    return 2;
  }
  how.repository = target.repository;
  try {
    return download (target, options, how);
  } catch (const std::exception &failure) {
    std::fprintf (stderr, "error: %s\n", failure.what ());
    return 1;
  }
}

} // namespace millrace
