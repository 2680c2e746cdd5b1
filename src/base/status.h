// Errors as values. A Status says what was expected, what was found, where, and what to do;
// Result<T> is a T or a Status.
//
// Threads: both are plain values. Nothing here throws.
#ifndef TIDAL_BASE_STATUS_H_
#define TIDAL_BASE_STATUS_H_

#include <fmt/format.h>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"

namespace tidal {

// The kinds of failure, few on purpose (docs/errors.md maps them to exit codes).
enum class StatusCode {
  kOk,
  kInvalidArgument,  // A value that the user gave is wrong: a flag, a plan, a request.
  kNotFound,         // A file or a named thing does not exist.
  kCorrupt,          // A file does not hold what its format demands.
  kUnsupported,      // Well formed, but this program (or this machine) has no support for it.
  kOutOfMemory,      // It needs more memory than there is; the message has both numbers.
  kIo,               // The operating system refused a read or a write.
  kCancelled,        // The user or the caller asked to stop.
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  // One line, without a trailing full stop or newline.
  const std::string& message() const { return message_; }

  // The same error with "where: " in front; ok stays ok.
  Status Annotate(std::string_view where) const {
    return ok() ? *this : Status(code_, fmt::format("{}: {}", where, message_));
  }

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() { return Status(); }

// Builders: InvalidArgument("--ctx-size is {}, expected at least {}", n, 1).
#define TIDAL_STATUS_BUILDER(Name, kCode)                                               \
  template <typename... Args>                                                           \
  Status Name(fmt::format_string<Args...> format, Args&&... args) {                     \
    return Status(StatusCode::kCode, fmt::format(format, std::forward<Args>(args)...)); \
  }
TIDAL_STATUS_BUILDER(InvalidArgument, kInvalidArgument)
TIDAL_STATUS_BUILDER(NotFound, kNotFound)
TIDAL_STATUS_BUILDER(Corrupt, kCorrupt)
TIDAL_STATUS_BUILDER(Unsupported, kUnsupported)
TIDAL_STATUS_BUILDER(OutOfMemory, kOutOfMemory)
TIDAL_STATUS_BUILDER(IoError, kIo)
TIDAL_STATUS_BUILDER(Cancelled, kCancelled)
#undef TIDAL_STATUS_BUILDER

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    TIDAL_CHECK(!status_.ok(), "a Result needs a value or an error");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  // REQUIRES: ok().
  T& value() & {
    TIDAL_CHECK(ok(), "value() of an error: {}", status_.message());
    return *value_;
  }
  const T& value() const& {
    TIDAL_CHECK(ok(), "value() of an error: {}", status_.message());
    return *value_;
  }
  T&& value() && {
    TIDAL_CHECK(ok(), "value() of an error: {}", status_.message());
    return *std::move(value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

#define TIDAL_RETURN_IF_ERROR(expr)                                                        \
  do {                                                                                     \
    if (::tidal::Status tidal_status_ = (expr); !tidal_status_.ok()) return tidal_status_; \
  } while (false)

#define TIDAL_CONCAT_INNER_(a, b) a##b
#define TIDAL_CONCAT_(a, b) TIDAL_CONCAT_INNER_(a, b)
// TIDAL_ASSIGN_OR_RETURN(auto file, GgufFile::Open(path));
#define TIDAL_ASSIGN_OR_RETURN(lhs, expr) \
  TIDAL_ASSIGN_OR_RETURN_IMPL_(TIDAL_CONCAT_(tidal_result_, __LINE__), lhs, expr)
#define TIDAL_ASSIGN_OR_RETURN_IMPL_(result, lhs, expr) \
  auto result = (expr);                                 \
  if (!result.ok()) return result.status();             \
  lhs = std::move(result).value()

}  // namespace tidal

#endif  // TIDAL_BASE_STATUS_H_
