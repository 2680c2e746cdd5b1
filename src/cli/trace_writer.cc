#include "cli/trace_writer.h"

#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

#include "cli/arguments.h"

namespace tidal {

void AddTraceOptions(CLI::App* app, TraceOptions* options) {
  AddText(app,
          {"--trace", "FILE",
           "Write what each layer of each decoded token reads to FILE, as lines of JSON"},
          &options->path);
  AddFlag(app, "--trace-positions", &options->positions,
          "With --trace: also which positions are chosen, which makes a large file");
}

Status CheckTraceOptions(const TraceOptions& options) {
  if (options.positions && options.path.empty())
    return InvalidArgument("--trace-positions needs --trace FILE, which they are written to");
  return options.path.empty() ? OkStatus() : CheckOutputPath(options.path);
}

std::string TraceLine(const LayerTrace& layer, bool with_positions) {
  // The shortest decimals that read back the same; JSON has no NaN.
  const std::string mass =
      std::isnan(layer.selected_mass) ? "null" : fmt::format("{}", layer.selected_mass);
  std::string line = fmt::format(
      R"({{"step":{},"pos":{},"layer":{},"role":"{}","tokens_attended":{},"selected_mass":{})",
      layer.step, layer.pos, layer.layer, NameOf(layer.role), layer.tokens_attended, mass);
  if (layer.chose) line += fmt::format(R"(,"fresh":{})", layer.fresh);
  if (layer.chose && with_positions) {
    line += R"(,"positions":[)";
    for (size_t set = 0; set < layer.positions.size(); ++set)
      line += fmt::format("{}[{}]", set == 0 ? "" : ",", fmt::join(layer.positions[set], ","));
    line += "]";
  }
  return line + "}";
}

Result<TraceWriter> TraceWriter::Open(const TraceOptions& options) {
  TraceWriter writer;
  if (options.path.empty()) return writer;
  TIDAL_ASSIGN_OR_RETURN(Output output, Output::ToFile(options.path));
  writer.state_ = std::make_unique<State>(State{std::move(output), options.positions, OkStatus()});
  return writer;
}

TraceFn TraceWriter::function() {
  if (!state_) return nullptr;
  return [state = state_.get()](const LayerTrace& layer) {
    if (!state->status.ok()) return;
    state->status = state->output.Write(TraceLine(layer, state->positions) + "\n");
  };
}

Status TraceWriter::Commit() {
  if (!state_) return OkStatus();
  TIDAL_RETURN_IF_ERROR(state_->status);
  return state_->output.Commit();
}

}  // namespace tidal
