#include "elements/http/http_service.hpp"

#include "elements/http/http_text_job.hpp"
#include "engine/api/parse.hpp"
#include "engine/clock.hpp"

#include <algorithm>
#include <random>

namespace millrace
{

namespace
{

uint64_t
random_seed ()
{
  static std::random_device device;                    // server's thread
  return (uint64_t{device ()} << 32 | device ()) >> 1; // fits a signed number, as JSON's readers like it
}

ApiError
draining_error ()
{
  return {.status = 503,
          .type = "server_error",
          .code = "draining",
          .message = "the server is shutting down",
          .retry_after_ms = 1000};
}

} // namespace

const HttpService::Route HttpService::kRoutes[] = {
    {"POST", "/v1/chat/completions", &HttpService::generate, Dialect::kChat, false},
    {"POST", "/v1/completions", &HttpService::generate, Dialect::kCompletion, false},
    {"POST", "/v1/embeddings", &HttpService::generate, Dialect::kEmbedding, false},
    {"POST", "/v1/responses", &HttpService::generate, Dialect::kResponses, false},
    {"POST", "/v1/messages", &HttpService::generate, Dialect::kMessages, false},
    {"POST", "/api/chat", &HttpService::generate, Dialect::kOllamaChat, false},
    {"POST", "/api/generate", &HttpService::generate, Dialect::kOllamaGenerate, false},
    {"POST", "/tokenize", &HttpService::text_route, Dialect::kChat, false},
    {"POST", "/detokenize", &HttpService::text_route, Dialect::kChat, false},
    {"POST", "/apply-template", &HttpService::text_route, Dialect::kChat, false},
    {"GET", "/v1/models", &HttpService::list_models, Dialect::kChat, false},
    {"GET", "/v1/models/*", &HttpService::show_model, Dialect::kChat, false},
    {"GET", "/v1/runtime", &HttpService::show_runtime, Dialect::kChat, false},
    {"GET", "/api/tags", &HttpService::list_tags, Dialect::kOllamaChat, false},
    {"DELETE", "/v1/requests/*", &HttpService::cancel_request, Dialect::kChat, false},
    {"GET", "/health", &HttpService::health, Dialect::kChat, true},
    {"GET", "/ready", &HttpService::ready, Dialect::kChat, true},
    {"GET", "/metrics", &HttpService::metrics, Dialect::kChat, false},
    {"GET", "/openapi.yaml", &HttpService::openapi, Dialect::kChat, true},
};

const HttpService::Route *
HttpService::find_route (std::string_view method, std::string_view path, bool &known_path)
{
  known_path = false;
  for (const Route &route : kRoutes) {
    const bool open_end = route.path.ends_with ('*');
    const std::string_view begin = route.path.substr (0, route.path.size () - open_end);
    const bool fits = open_end ? path.size () > begin.size () && path.starts_with (begin) : path == begin;
    if (!fits)
      continue;
    known_path = true;
    if (route.method == method || (route.method == "GET" && method == "HEAD"))
      return &route;
  }
  return nullptr;
}

HttpService::HttpService (const HttpServiceSettings &settings, std::shared_ptr<const Model> model,
                          HttpPipeline &pipeline)
    : settings_ (settings)
    , model_ (std::move (model))
    , pipeline_ (pipeline)
    , access_ (settings.access)
    , metrics_ (settings.model_names.front ())
    , server_ (settings.server, *this)
    , created_ (g_get_real_time () / G_USEC_PER_SEC)
{
}

HttpService::~HttpService ()
{
  stop ();
}

void
HttpService::start ()
{
  server_.start ();
  text_stop_ = false;
  text_thread_ = std::thread ([this] { run_text_jobs (); });
}

void
HttpService::stop ()
{
  draining_ = true;
  {
    std::lock_guard lock (text_mutex_);
    text_stop_ = true;
    text_work_.notify_all ();
  }
  if (text_thread_.joinable ())
    text_thread_.join ();
  // In the server's thread, then after what it has sent.
  struct Last final : ServerTask {
    HttpService &service;
    explicit Last (HttpService &service)
        : service (service)
    {
    }
    void run_in_server () override
    {
      for (const auto &active : service.active_)
        active.generation->abort ({.status = 503,
                                   .type = "server_error",
                                   .code = "server_stopped",
                                   .message = "the server has stopped"});
    }
  };
  server_.tasks ()->add (std::make_shared<Last> (*this));
  server_.stop ();
  for (const auto &active : active_)
    active.generation->detach ();
  active_.clear ();
  waiting_for_probe_.clear ();
  probe_.reset ();
}

void
HttpService::drain ()
{
  draining_ = true;
}

ApiLimits
HttpService::limits () const
{
  return {.models = settings_.model_names,
          .max_generations = 128,
          .has_chat_template = model_->chat_template != nullptr};
}

int
HttpService::concurrent (const std::string *caller) const
{
  return static_cast<int> (std::count_if (active_.begin (), active_.end (), [&] (const Active &active) {
    return (!caller || active.caller == *caller) && active.generation->in_pipeline ();
  }));
}

// --- every request ------------------------------------------------------------------------------

void
HttpService::preflight (HttpExchange &exchange)
{
  exchange.set_header ("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS");
  exchange.set_header ("Access-Control-Allow-Headers",
                       "Authorization, Content-Type, X-Api-Key, X-Request-Id");
  exchange.set_header ("Access-Control-Max-Age", "600");
  exchange.answer (204, "text/plain", "");
}

/// Refuses what can be refused without the body.
void
HttpService::got_headers (HttpExchange &exchange)
{
  exchange.on_over = [this] (const HttpExchange &over) {
    bool known = false;
    const Route *route = find_route (over.method (), over.path (), known);
    metrics_.answered (route ? std::string (route->path) : "other", over.status ());
    const auto found = std::find_if (active_.begin (), active_.end (), [&] (const Active &active) {
      return active.generation->answers (over);
    });
    log (over, found == active_.end () ? nullptr : found->generation.get ());
  };
  if (const std::string origin = access_.allowed_origin (exchange.header ("Origin")); !origin.empty ()) {
    exchange.set_header ("Access-Control-Allow-Origin", origin);
    exchange.set_header ("Vary", "Origin");
    exchange.set_header ("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
    if (exchange.method () == "OPTIONS")
      return preflight (exchange);
  }
  bool known = false;
  const Route *route = find_route (exchange.method (), exchange.path (), known);
  if (!route && known) {
    std::string allowed;
    for (const char *method : {"GET", "POST", "DELETE"}) {
      if (find_route (method, exchange.path (), known))
        allowed += (allowed.empty () ? "" : ", ") + std::string (method);
    }
    exchange.set_header ("Allow", allowed);
    return exchange.answer_error (Dialect::kChat, {.status = 405,
                                                   .type = "invalid_request_error",
                                                   .code = "method_not_allowed",
                                                   .message = "this path takes " + allowed});
  }
  if (!route)
    return exchange.answer_error (Dialect::kChat,
                                  {.status = 404,
                                   .type = "not_found_error",
                                   .code = "not_found",
                                   .message = "there is no such path; docs/http-api.md lists them"});
  std::string caller;
  if (!route->open) {
    if (const auto error = access_.authorize (exchange.header ("Authorization"),
                                              exchange.header ("X-Api-Key"), exchange.client (), caller))
      return exchange.answer_error (route->dialect, error);
  }
  // A page of another origin can send a form without asking first; it cannot send JSON.
  if (route->method == "POST") {
    std::string_view type = exchange.header ("Content-Type");
    type = type.substr (0, type.find (';'));
    while (type.ends_with (' '))
      type.remove_suffix (1);
    const bool json = g_ascii_strcasecmp (std::string (type).c_str (), "application/json") == 0;
    const bool ollama = route->path.starts_with ("/api/") && exchange.header ("Origin").empty ();
    if (!json && !ollama)
      return exchange.answer_error (route->dialect,
                                    {.status = 415,
                                     .type = "invalid_request_error",
                                     .code = "unsupported_media_type",
                                     .message = "send the body with \"Content-Type: application/json\""});
  }
}

void
HttpService::got_request (const std::shared_ptr<HttpExchange> &exchange)
{
  bool known = false;
  if (const Route *route = find_route (exchange->method (), exchange->path (), known))
    (this->*route->handler) (exchange);
}

void
HttpService::generate (const std::shared_ptr<HttpExchange> &exchange)
{
  bool known = false;
  const Dialect dialect = find_route (exchange->method (), exchange->path (), known)->dialect;
  if (draining_)
    return exchange->answer_error (dialect, draining_error ());
  std::string caller;
  access_.authorize (exchange->header ("Authorization"), exchange->header ("X-Api-Key"), exchange->client (),
                     caller);
  if (const auto error = access_.admit (caller, concurrent (&caller), steady_now_us ()))
    return exchange->answer_error (dialect, error);
  ApiRequest request;
  if (const auto error = parse_api_request (dialect, exchange->body (), limits (), random_seed (), request))
    return exchange->answer_error (dialect, error);
  const auto generation = std::make_shared<HttpGeneration> (exchange, std::move (request),
                                                            settings_.generation, pipeline_, metrics_);
  active_.push_back ({generation, caller});
  generation->start ();
}

void
HttpService::tick (int64_t now)
{
  if (draining_ && !std::exchange (listening_stopped_, true))
    server_.stop_listening ();
  for (const auto &active : active_)
    active.generation->tick (now);
  std::erase_if (active_, [] (const Active &active) {
    return active.generation->over () && !active.generation->in_pipeline ();
  });
  settle_probe (now);
}

bool
HttpService::busy ()
{
  tick (steady_now_us ());
  return std::any_of (active_.begin (), active_.end (),
                      [] (const Active &active) { return !active.generation->over (); });
}

void
HttpService::cancel_request (const std::shared_ptr<HttpExchange> &exchange)
{
  std::string caller;
  access_.authorize (exchange->header ("Authorization"), exchange->header ("X-Api-Key"), exchange->client (),
                     caller);
  constexpr std::string_view kPrefix = "/v1/requests/";
  const std::string_view wanted = exchange->path ().substr (kPrefix.size ());
  int found = 0;
  for (const auto &active : active_) {
    // The id in a body has the dialect's prefix: chatcmpl-ID, msg_ID.
    const std::string &id = active.generation->id ();
    const bool same =
        wanted == id ||
        (wanted.ends_with (id) && wanted.size () > id.size () &&
         std::string_view ("-_").find (wanted[wanted.size () - id.size () - 1]) != std::string_view::npos);
    if (!same || active.caller != caller || !active.generation->in_pipeline ())
      continue;
    active.generation->cancel ();
    found++;
  }
  if (found == 0)
    return exchange->answer_error (Dialect::kChat,
                                   {.status = 404,
                                    .type = "not_found_error",
                                    .code = "request_not_found",
                                    .message = "no request of yours with this id is under way"});
  exchange->answer (200, "application/json", "{\"cancelled\":true}");
}

} // namespace millrace
