#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/chat_session.h"
#include "cli/cli_test_util.h"
#include "cli/line_reader.h"

namespace tidal {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

CliResult Chat(std::vector<std::string> args, const std::string& input) {
  args.insert(args.begin(), {"chat", "-m", TinyModel(), "--no-history"});
  return RunTidal(args, input);
}

TEST(Chat, AnswersEachLineOfAPipe) {
  const CliResult result = Chat({"-n", "5", "--temp", "0"}, "the ring\nand on\n");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(IsUtf8(result.out));
  EXPECT_GE(std::count(result.out.begin(), result.out.end(), '\n'), 2);
  EXPECT_THAT(result.err, HasSubstr("(cut after 5 tokens, as --predict says)"));
}

TEST(Chat, CommandsAreNotMessages) {
  const CliResult result =
      Chat({"-n", "2"}, "/help\n/stats\n/clear\n/system be brief\n/nonsense\n\n  \n/exit\nnever\n");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("/clear           forget the conversation"));
  EXPECT_THAT(result.err, HasSubstr("There was no answer yet"));
  EXPECT_THAT(result.err, HasSubstr("The conversation is forgotten"));
  EXPECT_THAT(result.err, HasSubstr("The system message is set"));
  EXPECT_THAT(result.err, HasSubstr("/nonsense is not a command; /help lists them"));
}

TEST(Chat, JsonLinePerAnswerAndLinesThatGoOn) {
  const CliResult result = Chat({"-n", "3", "--json"}, "one\\\ntwo\nthree");
  EXPECT_EQ(result.code, 0) << result.err;
  ASSERT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
  const Json first = Json::parse(result.out.substr(0, result.out.find('\n')), nullptr, false);
  ASSERT_TRUE(first.is_object());
  EXPECT_EQ(first["finish_reason"], "length");
  EXPECT_TRUE(first["text"].is_string());
}

TEST(Chat, FullContextIsSaidAndNeverShifted) {
  const CliResult full = Chat({"-c", "48", "--ignore-eos"}, "the ring\nmore\n");
  EXPECT_EQ(full.code, 1);
  EXPECT_THAT(full.err, HasSubstr("(the context of 48 tokens is full, so the answer ends here"));
  EXPECT_THAT(full.err, HasSubstr("the context holds 48 and has no room for an answer"));
  const CliResult cleared = Chat({"-c", "48", "--ignore-eos"}, "the ring\n/clear\nmore\n");
  EXPECT_EQ(cleared.code, 0) << cleared.err;
}

class ChatSessionTest : public testing::Test {
 protected:
  void SetUp() override {
    EngineOptions options;
    options.model_path = TinyModel();
    Result<std::unique_ptr<Engine>> engine = Engine::Create(options, nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = std::move(engine).value();
    ChatSettings settings;
    settings.sampling.temperature = 0;
    settings.max_tokens = 6;
    settings.ignore_eos = true;
    Result<ChatSession> session = ChatSession::Open(engine_.get(), settings);
    ASSERT_TRUE(session.ok()) << session.status().message();
    session_.emplace(std::move(session).value());
  }

  Result<ChatAnswer> Ask(const std::string& text, const ChatSession::TextFn& on_text) {
    const InterruptScope interrupt;
    return session_->Ask(
        text, interrupt, [](int32_t, int32_t, int32_t) {}, on_text);
  }
  ChatAnswer Ask(const std::string& text) {
    Result<ChatAnswer> answer = Ask(text, [](const std::string&) { return OkStatus(); });
    EXPECT_TRUE(answer.ok()) << answer.status().message();
    return answer.ok() ? *answer : ChatAnswer();
  }

  std::unique_ptr<Engine> engine_;
  std::optional<ChatSession> session_;
};

TEST_F(ChatSessionTest, ATurnReadsOnlyWhatIsNew) {
  const ChatAnswer first = Ask("the ring");
  EXPECT_EQ(first.timings.reused_tokens, 0);
  const int32_t cached = session_->cached_tokens();
  EXPECT_EQ(cached, first.timings.prompt_tokens + first.timings.predicted_tokens - 1);
  // Whatever bytes the answer has, none of its tokens is read again.
  const ChatAnswer second = Ask("and on");
  EXPECT_EQ(second.timings.reused_tokens, cached);
  session_->Clear();
  const ChatAnswer again = Ask("the ring");
  EXPECT_EQ(again.text, first.text) << "nothing is left of the conversation";
}

TEST_F(ChatSessionTest, AFailedTurnIsForgotten) {
  const ChatAnswer first = Ask("the ring");
  const Result<ChatAnswer> failed =
      Ask("and on", [](const std::string&) { return IoError("gone"); });
  EXPECT_FALSE(failed.ok());
  EXPECT_TRUE(engine_->idle());
  const ChatAnswer third = Ask("and on");
  session_->Clear();
  EXPECT_EQ(Ask("the ring").text, first.text);
  EXPECT_EQ(Ask("and on").text, third.text);
  EXPECT_EQ(
      Ask(std::string(2000, 'x'), [](const std::string&) { return OkStatus(); }).status().code(),
      StatusCode::kInvalidArgument);
}

TEST(LineReader, ReadsAPipeLineByLine) {
  const MemoryFile in(std::string("one\r\n\ntwo\xff\nlast"));
  const Console console({in.fd(), in.fd(), in.fd()});
  const std::unique_ptr<LineReader> reader = MakeLineReader(console, "");
  EXPECT_EQ(reader->Read("> "), "one");
  EXPECT_EQ(reader->Read("> "), "");
  EXPECT_EQ(reader->Read("> "), "two\xff");
  EXPECT_EQ(reader->Read("> "), "last");
  EXPECT_EQ(reader->Read("> "), std::nullopt);
  EXPECT_EQ(reader->Read("> "), std::nullopt);
}

TEST(LineReader, HistoryLiesWhereStateBelongs) {
  const char* state = std::getenv("XDG_STATE_HOME");
  const std::string before = state == nullptr ? "" : state;
  setenv("XDG_STATE_HOME", "/some/state", 1);
  EXPECT_EQ(DefaultHistoryPath(), "/some/state/tidal/history");
  unsetenv("XDG_STATE_HOME");
  setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(DefaultHistoryPath(), "/home/someone/.local/state/tidal/history");
  if (!before.empty()) setenv("XDG_STATE_HOME", before.c_str(), 1);
}

}  // namespace
}  // namespace tidal
