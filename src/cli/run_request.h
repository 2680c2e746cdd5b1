// Runs requests of an engine to their end, for commands that have nothing else to run.
#ifndef TIDAL_CLI_RUN_REQUEST_H_
#define TIDAL_CLI_RUN_REQUEST_H_

#include <functional>
#include <vector>

#include "cli/interrupt.h"
#include "engine/engine.h"

namespace tidal {

struct RequestResult {
  FinishReason reason = FinishReason::kStop;
  Timings timings;
  AttentionStats attention;
};

// `on_event` sees every event of the request; an error that it returns cancels the request and is
// returned. A signal noted by `interrupt` (may be null) cancels it too, which is no error: the
// result's reason is kCancelled. Other errors: those of Submit and Step. The sequence is free for
// the next request afterwards. REQUIRES: the engine is idle.
Result<RequestResult> RunRequest(Engine* engine, SequenceId sequence, Request request,
                                 const InterruptScope* interrupt,
                                 const std::function<Status(const Event&)>& on_event);

// The same for requests that run side by side, each on its own sequence; `on_event` sees the events
// of all. Results in the order of the requests.
struct SequenceRequest {
  SequenceId sequence = 0;
  Request request;
};
Result<std::vector<RequestResult>> RunRequests(Engine* engine,
                                               std::vector<SequenceRequest> requests,
                                               const InterruptScope* interrupt,
                                               const std::function<Status(const Event&)>& on_event);

}  // namespace tidal

#endif  // TIDAL_CLI_RUN_REQUEST_H_
