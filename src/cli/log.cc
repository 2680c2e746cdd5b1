#include "cli/log.h"

#include <mutex>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <string>

#include "cli/arguments.h"
#include "cli/console.h"

namespace tidal {
namespace {

class DescriptorSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit DescriptorSink(int fd) : fd_(fd) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    static_cast<void>(WriteAll(fd_, "standard error", {line.data(), line.size()}));
  }
  void flush_() override {}

 private:
  int fd_;
};

}  // namespace

LogScope::LogScope(int fd) : previous_(spdlog::default_logger()) {
  auto logger = std::make_shared<spdlog::logger>("tidal", std::make_shared<DescriptorSink>(fd));
  logger->set_pattern("tidal: %l: %v");
  logger->set_level(spdlog::level::warn);
  spdlog::set_default_logger(std::move(logger));
}

LogScope::~LogScope() { spdlog::set_default_logger(previous_); }

void AddLogOption(CLI::App* app) {
  SetHeading(app, "Other");
  AddOption(app,
            {"--log-level", "trace|debug|info|warn|error|off",
             "Messages to show on standard error, from this level up (default: warn)"},
            [](const std::string& flag, const std::string& text) {
              for (const char* known : {"trace", "debug", "info", "warn", "error", "off"}) {
                if (text != known) continue;
                spdlog::default_logger()->set_level(spdlog::level::from_str(text));
                return OkStatus();
              }
              return InvalidArgument(
                  "{} is \"{}\", expected one of trace, debug, info, warn, error, off", flag, text);
            });
}

}  // namespace tidal
