#include "cli/run_request.h"

#include <utility>
#include <vector>

namespace tidal {

Result<RequestResult> RunRequest(Engine* engine, SequenceId sequence, Request request,
                                 const InterruptScope* interrupt,
                                 const std::function<Status(const Event&)>& on_event) {
  TIDAL_ASSIGN_OR_RETURN(const RequestId id, engine->Submit(sequence, std::move(request)));
  RequestResult result;
  Status failure;
  bool cancelled = false;
  std::vector<Event> events;
  while (!engine->idle()) {
    const bool stop = !failure.ok() || (interrupt != nullptr && interrupt->signal() != 0);
    if (stop && !std::exchange(cancelled, true)) engine->Cancel(id);
    events.clear();
    TIDAL_RETURN_IF_ERROR(engine->Step(&events));
    for (const Event& event : events) {
      if (event.kind == Event::Kind::kFinished)
        result = {event.reason, event.timings, event.attention};
      if (failure.ok()) failure = on_event(event);
    }
  }
  if (!failure.ok()) return failure;
  return result;
}

}  // namespace tidal
