// What each route of the server does. Server's thread, except where it says otherwise.
#pragma once

#include "elements/http/http_access.hpp"
#include "elements/http/http_generation.hpp"
#include "elements/http/http_metrics.hpp"
#include "engine/model/model.hpp"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace millrace
{

struct HttpServiceSettings {
  HttpServerSettings server;
  HttpAccessSettings access;
  GenerationLimits generation;
  std::vector<std::string> model_names; ///< the first is its own; "*": any is fine
  bool log_requests = false;            ///< one line of JSON for each, on standard error
  bool log_bodies = false;              ///< with the bodies of requests in it
};

class HttpService final : public HttpHandler
{
public:
  HttpService (const HttpServiceSettings &settings, std::shared_ptr<const Model> model,
               HttpPipeline &pipeline);
  ~HttpService () override;

  /// Any thread. start () throws LoadError.
  void start ();
  /// Ends what is still under way with an error and joins the threads.
  void stop ();
  /// From now on nothing new is taken: 503, and the listening socket is closed. Any thread.
  void drain ();
  int port () const { return server_.port (); }

  void got_headers (HttpExchange &exchange) override;
  void got_request (const std::shared_ptr<HttpExchange> &exchange) override;
  void tick (int64_t now_us) override;
  bool busy () override;

private:
  class Probe;
  class TextJob;
  using Handler = void (HttpService::*) (const std::shared_ptr<HttpExchange> &);
  struct Route {
    std::string_view method, path;
    Handler handler;
    Dialect dialect;
    bool open; ///< needs no key
  };
  static const Route kRoutes[];
  static const Route *find_route (std::string_view method, std::string_view path, bool &known_path);

  void generate (const std::shared_ptr<HttpExchange> &exchange);
  void text_route (const std::shared_ptr<HttpExchange> &exchange);
  void run_text_jobs ();
  void list_models (const std::shared_ptr<HttpExchange> &exchange);
  void show_model (const std::shared_ptr<HttpExchange> &exchange);
  void list_tags (const std::shared_ptr<HttpExchange> &exchange);
  void show_runtime (const std::shared_ptr<HttpExchange> &exchange);
  void health (const std::shared_ptr<HttpExchange> &exchange);
  void ready (const std::shared_ptr<HttpExchange> &exchange);
  void metrics (const std::shared_ptr<HttpExchange> &exchange);
  void openapi (const std::shared_ptr<HttpExchange> &exchange);
  void cancel_request (const std::shared_ptr<HttpExchange> &exchange);
  void preflight (HttpExchange &exchange);

  void settle_probe (int64_t now_us);
  void log (const HttpExchange &exchange, const HttpGeneration *generation);
  std::string model_json () const;
  ApiLimits limits () const;
  /// Generation requests without an end; of one caller, or of all.
  int concurrent (const std::string *caller) const;

  const HttpServiceSettings settings_;
  const std::shared_ptr<const Model> model_;
  HttpPipeline &pipeline_;
  HttpAccess access_;
  HttpMetrics metrics_;
  HttpServer server_;
  const int64_t created_;

  struct Active {
    std::shared_ptr<HttpGeneration> generation;
    std::string caller;
  };
  std::vector<Active> active_;
  std::atomic<bool> draining_{false};
  bool listening_stopped_ = false;

  std::shared_ptr<Probe> probe_;
  std::vector<std::shared_ptr<HttpExchange>> waiting_for_probe_;
  int64_t last_success_us_ = 0;

  // Tokenizing and templates take as long as a caller likes: another thread does them.
  std::thread text_thread_;
  std::mutex text_mutex_;
  std::condition_variable text_work_;
  std::deque<std::shared_ptr<TextJob>> text_jobs_;
  bool text_stop_ = false;
};

} // namespace millrace
