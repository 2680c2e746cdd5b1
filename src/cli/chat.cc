// tidal chat: a conversation on the terminal, or with the lines of a pipe.
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/chat_session.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/line_reader.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/progress_bar.h"
#include "cli/report.h"
#include "cli/sampling_options.h"

namespace tidal {
namespace {

constexpr const char* kFooter =
    R"(Each line is a message; one that ends in \ goes on in the next line. On a
terminal lines are edited and remembered (arrow keys, Ctrl-R), from a pipe they
are read one by one. The cache is kept, so a turn reads only what is new.

In the chat:
  /help            these commands
  /clear           forget the conversation
  /system [TEXT]   set the system message (without TEXT: none) and start anew
  /stats           speeds and memory of the last answer
  /exit            leave, as Ctrl-D does
  Ctrl-C           end the answer that is being written; twice: leave at once

Examples:
  tidal chat -m model.gguf
  tidal chat -m model.gguf --system "Answer in one sentence." --temp 0
  printf 'Hello\nAnd who are you?\n' | tidal chat -m model.gguf

Exit codes: 0 fine, 1 failed, 2 wrong usage.)";

constexpr const char* kCommands =
    "/help            these commands\n"
    "/clear           forget the conversation\n"
    "/system [TEXT]   set the system message (without TEXT: none) and start anew\n"
    "/stats           speeds and memory of the last answer\n"
    "/exit            leave (Ctrl-D too)\n"
    "Ctrl-C ends an answer. A line that ends in \\ goes on in the next one. To send a message "
    "that\n"
    "starts with /, put a space in front.\n";

class ChatCommand : public Command {
 public:
  explicit ChatCommand(CLI::App* app);
  Status Check() override { return CheckPromptCacheOptions(prompt_cache_); }
  Result<int> Run(const Console& console) override;

 private:
  // A conversation while it runs.
  struct Chat {
    const Console& console;
    const LoadedEngine& loaded;
    ChatSession& session;
    Output output;
    std::optional<ChatAnswer> last_answer;
    int signal = 0;  // that ends the program
  };

  Status Converse(LineReader* reader, Chat* chat);
  // What follows a slash; false: leave.
  bool Obey(const std::string& line, Chat* chat) const;
  Status Answer(const std::string& line, Chat* chat) const;
  Status Finish(const ChatAnswer& answer, Chat* chat) const;

  ModelOptions model_;
  SamplingOptions sampling_;
  PromptCacheOptions prompt_cache_;
  std::optional<std::string> system_;
  int32_t max_tokens_ = -1;
  bool no_history_ = false;
  bool json_ = false;
};

ChatCommand::ChatCommand(CLI::App* app) : Command(app) {
  SetHeading(app, "Conversation");
  AddText(app, {"--system", "TEXT", "The system message"}, &system_);
  AddInt(app,
         {"-n,--predict,--n-predict", "N",
          "Most tokens of an answer; -1 until the context is full (default: -1)"},
         &max_tokens_, {-1, std::numeric_limits<int32_t>::max()});
  AddPromptCacheOptions(app, &prompt_cache_);
  AddFlag(app, "--no-history", &no_history_, "Neither read nor write the file of remembered lines");
  AddFlag(app, "--json", &json_, "Print one JSON object per answer instead of streaming text");
  AddModelOptions(app, &model_);
  AddAttentionOption(app, &model_);
  AddSamplingOptions(app, &sampling_);
  AddLogOption(app);
  SetFooter(app, kFooter);
}

bool ChatCommand::Obey(const std::string& line, Chat* chat) const {
  const Console& console = chat->console;
  const size_t space = line.find(' ');
  const std::string name = line.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
  if (name == "/exit" || name == "/quit") return false;
  if (name == "/help") {
    console.Tell(kCommands);
  } else if (name == "/clear") {
    chat->session.Clear();
    console.Tell("The conversation is forgotten.\n");
  } else if (name == "/system") {
    chat->session.SetSystem(rest);
    console.Tell(rest.empty() ? "There is no system message now; the conversation starts anew.\n"
                              : "The system message is set; the conversation starts anew.\n");
  } else if (name == "/stats") {
    if (!chat->last_answer) {
      console.Tell("There was no answer yet.\n");
    } else {
      console.Tell(
          StatsTable({chat->loaded.engine.get(), chat->loaded.load_ms, chat->last_answer->timings,
                      chat->session.settings().attention, chat->last_answer->attention,
                      chat->session.settings().sampling.seed}));
      console.Tell(fmt::format("context   {} of {} tokens\n", chat->session.cached_tokens(),
                               chat->loaded.engine->ctx_size()));
    }
  } else {
    console.Tell(fmt::format("{} is not a command; /help lists them\n", name));
  }
  return true;
}

// What is to be said after an answer.
Status ChatCommand::Finish(const ChatAnswer& answer, Chat* chat) const {
  if (json_) {
    return chat->output.Write(DumpLine(
        {{"text", answer.text},
         {"finish_reason", NameOf(answer.reason)},
         {"timings", TimingsJson(chat->loaded.load_ms, answer.timings)},
         {"attention", AttentionJson(chat->session.settings().attention, answer.attention)}}));
  }
  if (!chat->output.at_line_start()) TIDAL_RETURN_IF_ERROR(chat->output.Write("\n"));
  if (answer.reason == FinishReason::kCancelled) {
    chat->console.Tell("(stopped)\n");
  } else if (answer.context_is_full) {
    chat->console.Tell(
        fmt::format("(the context of {} tokens is full, so the answer ends here; /clear starts a "
                    "new conversation)\n",
                    chat->loaded.engine->ctx_size()));
  } else if (answer.reason == FinishReason::kLength) {
    chat->console.Tell(fmt::format("(cut after {} tokens, as --predict says)\n", max_tokens_));
  }
  return OkStatus();
}

Status ChatCommand::Answer(const std::string& line, Chat* chat) const {
  const InterruptScope interrupt;
  ProgressBar bar(chat->console, "Reading");
  const auto on_prefill = [&](int32_t done, int32_t total, int32_t reused) {
    bar.UpdateCount(done, total, "tokens", reused);
  };
  Status written;
  const auto on_text = [&](const std::string& text) {
    bar.Clear();
    if (!json_) written = chat->output.Write(text);
    return written;
  };
  const Result<ChatAnswer> answer = chat->session.Ask(line, interrupt, on_prefill, on_text);
  bar.Clear();
  TIDAL_RETURN_IF_ERROR(written);
  if (interrupt.signal() != SIGINT) chat->signal = interrupt.signal();
  if (answer.ok()) {
    chat->last_answer = *answer;
    return Finish(*answer, chat);
  }
  // On a terminal the conversation can go on, with /clear for example; in a pipe nobody is there.
  if (!chat->console.in_is_terminal()) return answer.status();
  chat->console.Tell(fmt::format("tidal chat: {}\n", answer.status().message()));
  return OkStatus();
}

Status ChatCommand::Converse(LineReader* reader, Chat* chat) {
  while (chat->signal == 0) {
    std::optional<std::string> line = reader->Read("> ");
    while (line && line->ends_with('\\')) {
      line->back() = '\n';
      const std::optional<std::string> more = reader->Read(". ");
      if (!more) break;
      *line += *more;
    }
    if (!line) return OkStatus();
    if (line->find_first_not_of(" \t\n") == std::string::npos) continue;
    if (line->front() == '/') {
      if (!Obey(*line, chat)) return OkStatus();
      continue;
    }
    TIDAL_RETURN_IF_ERROR(Answer(*line, chat));
    if (chat->console.in_is_terminal() && chat->console.out_is_terminal())
      TIDAL_RETURN_IF_ERROR(chat->output.Write("\n"));
  }
  return OkStatus();
}

Result<int> ChatCommand::Run(const Console& console) {
  TIDAL_ASSIGN_OR_RETURN(PromptCache prompt_cache, PromptCache::Open(prompt_cache_));
  TIDAL_ASSIGN_OR_RETURN(const LoadedEngine loaded, LoadEngine(console, model_));
  TIDAL_RETURN_IF_ERROR(prompt_cache.Check(*loaded.engine));
  ChatSettings settings;
  settings.prompt_cache = &prompt_cache;
  settings.system = system_;
  settings.sampling = WithSeed(sampling_);
  settings.attention = loaded.plans[0];
  settings.max_tokens = max_tokens_;
  settings.ignore_eos = sampling_.ignore_eos;
  TIDAL_ASSIGN_OR_RETURN(ChatSession session,
                         ChatSession::Open(loaded.engine.get(), std::move(settings)));
  const std::unique_ptr<LineReader> reader =
      MakeLineReader(console, no_history_ ? "" : DefaultHistoryPath());
  if (console.in_is_terminal() && console.out_is_terminal()) {
    console.Tell(fmt::format("{}, context {} tokens. /help lists commands, Ctrl-D leaves.\n",
                             BaseName(model_.engine.model_path), loaded.engine->ctx_size()));
  }
  Chat chat{console, loaded, session,
            Output::ToDescriptor(console.streams().out_fd, "standard output"), std::nullopt};
  TIDAL_RETURN_IF_ERROR(Converse(reader.get(), &chat));
  TIDAL_RETURN_IF_ERROR(session.SaveCache());
  return chat.signal == 0 ? kExitOk : kExitSignal + chat.signal;
}

}  // namespace

std::unique_ptr<Command> MakeChatCommand(CLI::App* root) {
  return std::make_unique<ChatCommand>(
      AddCommand(root, "chat", "talk with a model on the terminal"));
}

}  // namespace tidal
