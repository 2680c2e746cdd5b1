#include "eval/calibration_log.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <sstream>
#include <system_error>

#include <nlohmann/json.hpp>

#include "eval/json_lines.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 1;
constexpr const char* kFormatField = "calibration_log";

Json HeadOf(const CalibrationSetup& setup) {
  Json head = {{kFormatField, kFormat}};
  for (const auto& [name, value] : setup) head[name] = value;
  return head;
}

Status CheckHead(const Json& head, const CalibrationSetup& setup) {
  const auto format = head.find(kFormatField);
  if (format == head.end() || *format != kFormat)
    return Corrupt("expected the beginning of a calibration's log, \"{}\": {}", kFormatField,
                   kFormat);
  for (const auto& [name, value] : setup) {
    const auto found = head.find(name);
    const std::string there = found == head.end() ? "missing" : found->dump();
    if (there != Json(value).dump())
      return InvalidArgument(
          "it was begun with {} {}, this run has {}: remove it to begin anew, or name another file",
          name, there, Json(value).dump());
  }
  return OkStatus();
}

// An array of numbers; infinities, which JSON does not have, are written as null.
Result<std::vector<float>> Numbers(const Json& object, const char* field) {
  const auto found = object.find(field);
  if (found == object.end() || !found->is_array())
    return InvalidArgument("\"{}\" is missing or no array of numbers", field);
  std::vector<float> numbers;
  for (const Json& item : *found) {
    if (!item.is_number() && !item.is_null())
      return InvalidArgument("\"{}\" has {}, expected numbers", field, item.dump());
    numbers.push_back(item.is_null() ? HUGE_VALF : item.get<float>());
  }
  return numbers;
}

Result<std::string> ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file && file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  if (!file && !file.eof()) return IoError("{}: cannot read", path);
  return text.str();
}

}  // namespace

Result<CalibrationLog> CalibrationLog::Open(const std::string& path,
                                            const CalibrationSetup& setup) {
  CalibrationLog log;
  std::error_code error;
  std::string text;
  if (std::filesystem::exists(path, error)) {
    if (!std::filesystem::is_regular_file(path, error))
      return IoError("{}: expected a file that can be appended to", path);
    TIDAL_ASSIGN_OR_RETURN(text, ReadAll(path));
    // Without its newline the last line was cut off: it goes, so that the next one begins well.
    text.resize(text.rfind('\n') + 1);
    std::filesystem::resize_file(path, text.size(), error);
    if (error) return IoError("{}: cannot write: {}", path, error.message());
    if (const Status status = log.Read(text, setup); !status.ok()) return status.Annotate(path);
  }
  log.path_ = path;
  log.file_.open(path, std::ios::binary | std::ios::app);
  if (!log.file_) return IoError("{}: cannot write", path);
  if (text.empty()) TIDAL_RETURN_IF_ERROR(log.Append(HeadOf(setup).dump()));
  return log;
}

Status CalibrationLog::Read(const std::string& text, const CalibrationSetup& setup) {
  bool has_head = false;
  return ForEachJsonLine("log", text, [&](const Json& line) -> Status {
    if (!std::exchange(has_head, true)) return CheckHead(line, setup);
    TIDAL_ASSIGN_OR_RETURN(std::string window, JsonText(line, "window"));
    TIDAL_ASSIGN_OR_RETURN(std::string plan, JsonText(line, "plan"));
    PlanRows rows;
    TIDAL_ASSIGN_OR_RETURN(rows.kl, Numbers(line, "kl"));
    TIDAL_ASSIGN_OR_RETURN(rows.extra_nats, Numbers(line, "extra_nats"));
    if (rows.kl.size() != rows.extra_nats.size())
      return InvalidArgument("\"kl\" has {} rows, \"extra_nats\" {}", rows.kl.size(),
                             rows.extra_nats.size());
    rows_[KeyOf(window, plan)] = std::move(rows);
    ++num_read_;
    return OkStatus();
  });
}

std::string CalibrationLog::KeyOf(std::string_view window, std::string_view plan) {
  return fmt::format("{} {}", window, plan);
}

Status CalibrationLog::Append(const std::string& line) {
  file_ << line << '\n' << std::flush;
  return file_ ? OkStatus() : IoError("{}: cannot write", path_);
}

const PlanRows* CalibrationLog::Find(std::string_view window, std::string_view plan,
                                     size_t num_rows) const {
  const auto found = rows_.find(KeyOf(window, plan));
  return found == rows_.end() || found->second.size() < num_rows ? nullptr : &found->second;
}

Status CalibrationLog::Add(std::string_view window, std::string_view plan, PlanRows rows) {
  if (!path_.empty()) {
    const Json line = {
        {"window", window}, {"plan", plan}, {"kl", rows.kl}, {"extra_nats", rows.extra_nats}};
    TIDAL_RETURN_IF_ERROR(Append(line.dump()));
  }
  rows_[KeyOf(window, plan)] = std::move(rows);
  return OkStatus();
}

}  // namespace tidal
