#include "cli/run_request.h"

#include <algorithm>
#include <utility>

namespace tidal {

Result<std::vector<RequestResult>> RunRequests(
    Engine* engine, std::vector<SequenceRequest> requests, const InterruptScope* interrupt,
    const std::function<Status(const Event&)>& on_event) {
  std::vector<RequestId> ids;
  const auto cancel_all = [&] {
    for (const RequestId id : ids) engine->Cancel(id);
  };
  Status failure;
  for (SequenceRequest& entry : requests) {
    const Result<RequestId> id = engine->Submit(entry.sequence, std::move(entry.request));
    if (!id.ok()) {
      failure = id.status();
      break;
    }
    ids.push_back(*id);
  }
  std::vector<RequestResult> results(requests.size());
  bool cancelled = false;
  std::vector<Event> events;
  while (!engine->idle()) {
    const bool stop = !failure.ok() || (interrupt != nullptr && interrupt->signal() != 0);
    if (stop && !std::exchange(cancelled, true)) cancel_all();
    events.clear();
    TIDAL_RETURN_IF_ERROR(engine->Step(&events));
    for (const Event& event : events) {
      if (event.kind == Event::Kind::kFinished) {
        const auto index = std::find(ids.begin(), ids.end(), event.request) - ids.begin();
        results[static_cast<size_t>(index)] = {event.reason, event.timings, event.attention};
      }
      if (failure.ok()) failure = on_event(event);
    }
  }
  if (!failure.ok()) return failure;
  return results;
}

Result<RequestResult> RunRequest(Engine* engine, SequenceId sequence, Request request,
                                 const InterruptScope* interrupt,
                                 const std::function<Status(const Event&)>& on_event) {
  std::vector<SequenceRequest> requests;
  requests.push_back({sequence, std::move(request)});
  TIDAL_ASSIGN_OR_RETURN(const std::vector<RequestResult> results,
                         RunRequests(engine, std::move(requests), interrupt, on_event));
  return results.front();
}

}  // namespace tidal
