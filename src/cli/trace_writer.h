// --trace: what each layer of each decoded row read, as lines of JSON (docs/trace.md).
#ifndef TIDAL_CLI_TRACE_WRITER_H_
#define TIDAL_CLI_TRACE_WRITER_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "cli/output.h"
#include "engine/trace.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

struct TraceOptions {
  std::string path;  // empty: no trace
  bool positions = false;
};

// Declares --trace and --trace-positions.
void AddTraceOptions(CLI::App* app, TraceOptions* options);
// kInvalidArgument: --trace-positions without --trace.
Status CheckTraceOptions(const TraceOptions& options);

// The line of one layer, without a newline.
std::string TraceLine(const LayerTrace& layer, bool with_positions);

// The file, which appears whole with Commit or not at all. Without a path it does nothing.
class TraceWriter {
 public:
  // kIo where the file cannot be made.
  static Result<TraceWriter> Open(const TraceOptions& options);

  // Writes what it is told; empty where nothing is traced. The writer may be moved meanwhile, but
  // has to live as long. A failed write is reported by Commit.
  TraceFn function();
  Status Commit();

 private:
  struct State {
    Output output;
    bool positions;
    Status status;  // the first failure
  };
  std::unique_ptr<State> state_;  // null: no trace
};

}  // namespace tidal

#endif  // TIDAL_CLI_TRACE_WRITER_H_
