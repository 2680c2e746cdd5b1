// Options of every command that runs a model, and the engine made of them.
#ifndef TIDAL_CLI_MODEL_OPTIONS_H_
#define TIDAL_CLI_MODEL_OPTIONS_H_

#include <memory>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/console.h"
#include "engine/engine.h"

namespace tidal {

struct ModelOptions {
  EngineOptions engine;
  // -b and -ub: a step takes the smaller of the two.
  int32_t batch_tokens = 2048;
  int32_t ubatch_tokens = 512;
};

// Declares -m.
void AddModelPath(CLI::App* app, std::string* path, Presence presence = Presence::kRequired);
// Declares -m and how the model is run: context, threads, device, instruction set, precision, cache
// types, key index, batch.
void AddModelOptions(CLI::App* app, ModelOptions* options, Presence model = Presence::kRequired);
// Declares --attention with one plan, which becomes the only one of engine.plans ("full" where the
// option is not given).
void AddAttentionOption(CLI::App* app, ModelOptions* options);
// Declares --attention with plans to compare, which become engine.plans; `defaults` is a list of
// plans as the option takes it.
void AddAttentionPlansOption(CLI::App* app, ModelOptions* options, const char* defaults);

struct LoadedEngine {
  std::unique_ptr<Engine> engine;
  std::vector<AttentionPlan> plans;  // those of the options, for this model
  double load_ms = 0;
};

// Loads with a progress bar, and tells what weights, cache and index take (on a terminal, or from
// --log-level info on) and when calibrated plans were found beside the model. Errors: those of
// Engine::Create. `max_sequences` as in EngineOptions.
Result<LoadedEngine> LoadEngine(const Console& console, const ModelOptions& options,
                                int32_t max_sequences = 1);

// The status of Engine::Create; where it refuses --ctx-size, with what asked for such a context in
// front.
Status SaysWhoAsked(const Status& status, const std::string& who);

// The last part of a path, for people.
std::string BaseName(const std::string& path);

}  // namespace tidal

#endif  // TIDAL_CLI_MODEL_OPTIONS_H_
